/** Keeps the page for use without a network, and says when it is kept. */

/**
 * @param {{onReady: () => void, onUpdate: (takeOver: () => void) => void}} listener
 * @return {Promise<void>}
 */
export async function keepOffline({onReady, onUpdate}) {
  if (!navigator.serviceWorker) return; // plain http on another host
  const hadController = navigator.serviceWorker.controller !== null;
  const registration = await navigator.serviceWorker.register('sw.js');
  const offer = () => {
    if (!registration.waiting || !hadController) return;
    onUpdate(() => {
      navigator.serviceWorker.addEventListener('controllerchange', () => location.reload(), {once: true});
      registration.waiting.postMessage('take-over');
    });
  };
  offer();
  registration.addEventListener('updatefound', () => {
    registration.installing?.addEventListener('statechange', offer);
  });
  await navigator.serviceWorker.ready;
  await keepWhatWasLoaded();
  onReady();
}

/** What this visit has loaded came before the service worker was there: above all the runtime in this browser's variant. */
async function keepWhatWasLoaded() {
  const name = (await caches.keys()).filter((key) => key.startsWith('moe-edge-')).at(-1);
  const cache = await caches.open(name);
  const urls = performance.getEntriesByType('resource').map((entry) => entry.name.split('#')[0]);
  for (const url of new Set(urls)) {
    if (new URL(url).origin === location.origin && !url.endsWith('/sw.js') && !(await cache.match(url))) {
      await cache.add(url);
    }
  }
}
