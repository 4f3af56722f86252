/** Tabs as the ARIA pattern has them: arrow keys move, the address remembers. */

/** @param {{onOpen: (name: string) => void}} listener Told the name of each panel that opens. */
export function startTabs({onOpen}) {
  const tabs = [...document.querySelectorAll('[role=tab]')];
  const open = (tab, hasFocus) => {
    for (const each of tabs) {
      const isOpen = each === tab;
      each.setAttribute('aria-selected', isOpen);
      each.tabIndex = isOpen ? 0 : -1;
      document.getElementById(each.getAttribute('aria-controls')).hidden = !isOpen;
    }
    if (hasFocus) tab.focus();
    const name = nameOf(tab);
    if (location.hash.slice(1) !== name) history.replaceState(null, '', `#${name}`);
    onOpen(name);
  };
  for (const tab of tabs) tab.addEventListener('click', () => open(tab, false));
  document.querySelector('[role=tablist]').addEventListener('keydown', ({key}) => {
    const at = tabs.indexOf(document.activeElement);
    const to = {ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1}[key];
    if (to !== undefined && at >= 0) open(tabs[(to + tabs.length) % tabs.length], true);
  });
  open(tabs.find((tab) => nameOf(tab) === location.hash.slice(1)) ?? tabs[0], false);
}

function nameOf(tab) {
  return tab.id.replace('tab-', '');
}
