/** A moving trace of six channels, and below it which experts spoke when. */
const SHOWN = 400;
const COLOURS = 8;
const CHANNELS = ['--axis-x', '--axis-y', '--axis-z'];
const BANDS = [
  {name: 'acceleration', first: 0, from: 0.06, to: 0.43},
  {name: 'rotation', first: 3, from: 0.47, to: 0.8},
];
const RIBBON = {from: 0.86, to: 0.98};

export class TraceView {
  #canvas;
  #samples = [];
  #weights = [];
  #windowLength;
  #isDue = false;

  constructor(canvas, windowLength) {
    this.#canvas = canvas;
    this.#windowLength = windowLength;
    new ResizeObserver(() => this.#request()).observe(canvas);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#request());
  }

  clear() {
    this.#samples = [];
    this.#weights = [];
    this.#request();
  }

  /**
   * @param {number[]} sample Six values.
   * @param {Float32Array|null} routingWeights Of the newest answer.
   */
  push(sample, routingWeights) {
    this.#samples.push(sample);
    this.#weights.push(routingWeights);
    if (this.#samples.length > SHOWN) {
      this.#samples.shift();
      this.#weights.shift();
    }
    this.#request();
  }

  #request() {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      this.#draw();
    });
  }

  #draw() {
    const canvas = this.#canvas;
    const ratio = devicePixelRatio;
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext('2d');
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    const step = width / SHOWN;
    const start = width - this.#samples.length * step;
    context.clearRect(0, 0, width, height);
    context.fillStyle = colour('--window');
    const windowWidth = this.#windowLength * step;
    context.beginPath();
    context.roundRect(width - windowWidth, 0, windowWidth, height * 0.83, 8 * ratio);
    context.fill();
    context.lineJoin = 'round';
    context.font = `${11 * ratio}px system-ui, sans-serif`;
    for (const {name, first, from, to} of BANDS) {
      const values = this.#samples.flatMap((sample) => sample.slice(first, first + 3));
      const most = Math.max(1, ...values.map(Math.abs));
      const middle = ((from + to) / 2) * height;
      const scale = (((to - from) / 2) * height) / most;
      Object.assign(context, {strokeStyle: colour('--line'), lineWidth: 1.6 * ratio});
      line(context, [0, width], () => middle);
      CHANNELS.forEach((axis, channel) => {
        context.strokeStyle = colour(axis);
        context.beginPath();
        this.#samples.forEach((sample, index) => {
          const [x, y] = [start + index * step, middle - sample[first + channel] * scale];
          if (index === 0) context.moveTo(x, y);
          else context.lineTo(x, y);
        });
        context.stroke();
      });
      Object.assign(context, {fillStyle: colour('--muted'), strokeStyle: colour('--card'), lineWidth: 4 * ratio});
      context.strokeText(name, 6 * ratio, from * height + 8 * ratio);
      context.fillText(name, 6 * ratio, from * height + 8 * ratio);
    }
    this.#drawRibbon(context, {height, start, step, colour});
  }

  #drawRibbon(context, {height, start, step, colour}) {
    const [from, to] = [RIBBON.from * height, RIBBON.to * height];
    this.#weights.forEach((weights, index) => {
      if (!weights) return;
      let y = from;
      weights.forEach((weight, expert) => {
        context.fillStyle = colour(`--expert-${expert % COLOURS}`);
        context.fillRect(start + index * step, y, step + 0.7, weight * (to - from));
        y += weight * (to - from);
      });
    });
  }
}

function line(context, [from, to], y) {
  context.beginPath();
  context.moveTo(from, y(from));
  context.lineTo(to, y(to));
  context.stroke();
}
