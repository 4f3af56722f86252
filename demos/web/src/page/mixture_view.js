/**
 * Who spoke, and how loudly: from the input through the gate to the experts, and on to the answer. Thickness is the
 * gate's weight.
 */
import {percent} from './probability_bars.js';
import {svg} from './svg.js';

const WIDTH = 420;
const LEFT = 74;
const MIDDLE = 220;
const RIGHT = 366;
/** More than these in a column would be too small to read; the loudest are shown. */
const MOST_SHOWN = 8;
const COLOURS = 8;

export class MixtureView {
  #experts = [];
  #input;
  #answer;
  #note;
  #shown;

  /**
   * @param {HTMLElement} place
   * @param {object} options
   * @param {number} options.numExperts
   * @param {string} options.inputLabel What stands below the input.
   */
  constructor(place, {numExperts, inputLabel}) {
    this.#shown = Math.min(numExperts, MOST_SHOWN);
    const gap = Math.max(34, Math.min(54, 260 / this.#shown));
    const height = Math.max(170, this.#shown * gap + 16);
    const centre = height / 2;
    const picture = svg('svg', {viewBox: `0 0 ${WIDTH} ${height}`, class: 'mixture', 'aria-hidden': 'true'});
    const lines = svg('g', {fill: 'none', 'stroke-linecap': 'round'});
    picture.append(lines);
    for (let place_ = 0; place_ < this.#shown; place_ += 1) {
      const y = centre + (place_ - (this.#shown - 1) / 2) * gap;
      const come = svg('path', {d: curve(LEFT + 44, centre, MIDDLE - 18, y)});
      const go = svg('path', {d: curve(MIDDLE + 18, y, RIGHT - 48, centre)});
      const circle = svg('circle', {cx: MIDDLE, cy: y, r: 8});
      const name = svg('text', {x: MIDDLE, y: y + 4.5, class: 'expert-name'});
      const share = svg('text', {x: MIDDLE + 26, y: y + 5, class: 'share'});
      lines.append(come, go);
      picture.append(svg('g', {}, circle, name, share));
      this.#experts.push({come, go, circle, name, share});
    }
    this.#input = svg('g', {transform: `translate(${LEFT - 40} ${centre - 40})`});
    this.#answer = svg('text', {class: 'answer', transform: `translate(${RIGHT} ${centre})`});
    const below = svg('text', {x: LEFT, y: centre + 60, class: 'caption'});
    below.textContent = inputLabel;
    picture.append(svg('rect', {x: LEFT - 44, y: centre - 44, width: 88, height: 88, rx: 14, class: 'node'}));
    picture.append(svg('circle', {cx: RIGHT - 46, cy: centre, r: 5, class: 'answer-node'}));
    picture.append(this.#input, below, this.#answer);
    this.#note = document.createElement('p');
    this.#note.className = 'fine';
    place.replaceChildren(picture, this.#note);
    this.show(null);
  }

  /** The group, 80 by 80, to draw the input into. */
  get input() {
    return this.#input;
  }

  /**
   * @param {{routingWeights: Float32Array, expertsRun: number}|null} answer
   * @param {string} [text] The answer's label.
   */
  show(answer, text = '') {
    const weights = answer ? Array.from(answer.routingWeights) : [];
    const order = weights.map((_, index) => index).sort((one, other) => weights[other] - weights[one]);
    // Experts keep their places while all of them fit.
    const shown = weights.length <= this.#shown ? order.slice().sort((a, b) => a - b) : order.slice(0, this.#shown);
    this.#experts.forEach(({come, go, circle, name, share}, place) => {
      const expert = shown[place] ?? place;
      const weight = weights[expert] ?? 0;
      const isOn = weight >= 0.005;
      const colour = `var(--expert-${expert % COLOURS})`;
      for (const line of [come, go]) {
        line.style.stroke = isOn ? colour : 'var(--line)';
        line.style.strokeWidth = isOn ? 1.5 + 15 * weight : 1.2;
        line.style.opacity = isOn ? 0.35 + 0.65 * weight : 1;
      }
      circle.setAttribute('r', isOn ? 11 + 9 * Math.sqrt(weight) : 11);
      circle.style.fill = isOn ? colour : 'var(--card)';
      circle.style.stroke = isOn ? colour : 'var(--faint)';
      name.textContent = expert;
      name.classList.toggle('on', isOn);
      share.textContent = isOn ? percent(weight) : '';
    });
    this.#writeAnswer(text);
    this.#note.textContent = answer ? describeExperts(answer) : 'Thickness shows how much each expert counts.';
  }

  /** Long labels stand word below word. */
  #writeAnswer(text) {
    const words = text.split(' ');
    const longest = Math.max(...words.map((word) => word.length));
    const size = longest <= 2 ? 58 : Math.max(10, Math.min(20, 140 / longest));
    this.#answer.style.fontSize = `${size}px`;
    this.#answer.replaceChildren(
      ...words.map((word, index) => {
        const line = svg('tspan', {x: longest <= 2 ? 0 : 6, y: (index - (words.length - 1) / 2) * size * 1.2});
        line.textContent = word;
        return line;
      }),
    );
  }
}

/** @return {string} Such as "expert 3 61 %, expert 0 30 %". */
export function describeExperts({routingWeights, expertsRun}) {
  const loud = Array.from(routingWeights, (weight, index) => ({weight, index}))
    .filter(({weight}) => weight >= 0.005)
    .sort((one, other) => other.weight - one.weight);
  const named = loud.slice(0, 4).map(({weight, index}) => `expert ${index} ${percent(weight)}`);
  const more = loud.length > named.length ? ` and ${loud.length - named.length} more` : '';
  return `${named.join(', ')}${more} · ${expertsRun} of ${routingWeights.length} ran`;
}

function curve(x, y, toX, toY) {
  const middle = (x + toX) / 2;
  return `M${x} ${y}C${middle} ${y} ${middle} ${toY} ${toX} ${toY}`;
}
