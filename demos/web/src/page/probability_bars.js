/** One bar a class, with its number, readable without colours. */
export class ProbabilityBars {
  #rows = [];

  /**
   * @param {HTMLElement} place
   * @param {string[]} labels
   */
  constructor(place, labels) {
    const list = document.createElement('ul');
    list.className = labels.every((label) => label.length <= 2) ? 'short' : '';
    for (const label of labels) {
      const item = document.createElement('li');
      const [name, track, bar, value] = ['span', 'span', 'i', 'span'].map((tag) => document.createElement(tag));
      name.textContent = label;
      name.className = 'name';
      track.className = 'track';
      value.className = 'value';
      track.append(bar);
      item.append(name, track, value);
      list.append(item);
      this.#rows.push({item, bar, value});
    }
    place.replaceChildren(list);
    this.show(null);
  }

  /** @param {Float32Array|null} probabilities */
  show(probabilities) {
    const best = probabilities ? Math.max(...probabilities) : 2;
    this.#rows.forEach(({item, bar, value}, index) => {
      const share = probabilities?.[index] ?? 0;
      bar.style.setProperty('--share', share);
      value.textContent = probabilities ? percent(share) : '';
      item.classList.toggle('best', share === best);
    });
  }
}

/** @return {string} Such as "98 %", with a space that keeps it in one line. */
export function percent(share) {
  return `${Math.round(100 * share)}\u00a0%`;
}
