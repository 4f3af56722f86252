/** Dense and routed beside each other: answer, experts that ran, measured time; and which of them the page shows. */
import {measure} from './timing.js';
import {percent} from './probability_bars.js';

const NAMES = {dense: 'Dense', routed: 'Routed'};
const MEANING = {dense: 'all experts in one call', routed: 'the gate, then only the experts needed'};

export class ModeChoice {
  #moe;
  #rows = {};
  #verdict;
  #mode = 'dense';
  #timer;
  #isMeasuring = false;
  #isWarm = false;

  /**
   * @param {HTMLElement} place
   * @param {import('../moe.js').Mixture} moe
   * @param {{name: string, onChange: () => void}} options
   */
  constructor(place, moe, {name, onChange}) {
    this.#moe = moe;
    const table = document.createElement('table');
    table.className = 'modes';
    table.innerHTML =
      '<thead><tr><th scope="col">mode</th><th scope="col">answer</th><th scope="col">experts</th>' +
      '<th scope="col">µs a row</th></tr></thead><tbody></tbody>';
    for (const mode of Object.keys(NAMES)) {
      const row = document.createElement('tr');
      row.innerHTML =
        `<th scope="row"><label><input type="radio" name="${name}" value="${mode}"> <span>${NAMES[mode]}` +
        `<small>${MEANING[mode]}</small></span></label></th><td>–</td><td>–</td><td>–</td>`;
      const radio = row.querySelector('input');
      radio.checked = mode === this.#mode;
      radio.disabled = mode === 'routed' && moe.routingObstacle !== null;
      radio.addEventListener('change', () => {
        this.#mode = mode;
        onChange();
      });
      table.tBodies[0].append(row);
      this.#rows[mode] = {row, cells: row.querySelectorAll('td')};
    }
    this.#verdict = document.createElement('p');
    this.#verdict.className = 'fine';
    this.#verdict.textContent = moe.routingObstacle ?? 'Both are timed on this device as soon as there is an answer.';
    place.replaceChildren(table, this.#verdict);
  }

  /** `dense` or `routed`. */
  get mode() {
    return this.#mode;
  }

  /**
   * Answers a row in both modes.
   *
   * @param {Float32Array} row
   * @return {Promise<import('../moe.js').Answer>} In the chosen mode.
   */
  async answer(row) {
    const answers = {dense: await this.#moe.predict(row)};
    if (this.#moe.routingObstacle === null) answers.routed = await this.#moe.route(row);
    for (const [mode, answer] of Object.entries(answers)) {
      const [said, ran] = this.#rows[mode].cells;
      said.textContent = answer.label === null ? answer.prediction[0].toPrecision(4)
        : `${answer.label} · ${percent(answer.confidence)}`;
      ran.textContent = `${answer.expertsRun} of ${this.#moe.numExperts}`;
    }
    for (const [mode, {row: line}] of Object.entries(this.#rows)) line.classList.toggle('on', mode === this.#mode);
    return answers[this.#mode];
  }

  /** Measures both modes on a row when the person has paused. */
  measureSoon(row, delayMs = 350) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#measure(row), delayMs);
  }

  async #measureBoth(row) {
    const us = {dense: await measure(() => this.#moe.predict(row))};
    if (this.#moe.routingObstacle === null) us.routed = await measure(() => this.#moe.route(row));
    return us;
  }

  async #measure(row) {
    if (this.#isMeasuring) return;
    this.#isMeasuring = true;
    try {
      let us = await this.#measureBoth(row);
      if (!this.#isWarm) {
        // What runs first in a new page is slower, whichever it is: the browser is still compiling.
        us = await this.#measureBoth(row);
        this.#isWarm = true;
      }
      for (const [mode, value] of Object.entries(us)) this.#rows[mode].cells[2].textContent = value.toFixed(0);
      if (us.routed) this.#verdict.textContent = describeTimes(us);
      document.documentElement.dataset.us = JSON.stringify(us);
    } finally {
      this.#isMeasuring = false;
    }
  }
}

function describeTimes({dense, routed}) {
  if (Math.max(dense, routed) < 1.15 * Math.min(dense, routed)) {
    return 'Measured here: both take about as long for this row. The page starts in dense, the trained model as it is.';
  }
  const times = (routed > dense ? routed / dense : dense / routed).toFixed(1);
  return routed > dense
    ? `Measured here: routed takes ${times} times as long. Each expert is a call of its own into WebAssembly, which ` +
        'costs more than experts this small; so the page starts in dense. Large experts turn that round.'
    : `Measured here: routed is ${times} times faster for this row, because the experts it skips cost more than the ` +
        'calls it adds. Its answer may differ a little; the page starts in dense, the trained model as it is.';
}
