/** A canvas to draw on by finger, pen, mouse or keyboard. Strokes are lists of points in [0, 1]. */
const STEP = 1 / 24;

export class DrawingPad {
  #canvas;
  #context;
  #strokes = [];
  #pointer = null;
  #pen = {x: 0.5, y: 0.5, isDown: false, isShown: false};
  #onChange;

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {{onChange: (strokes: {x: number, y: number}[][], isFinished: boolean) => void}} listener
   */
  constructor(canvas, {onChange}) {
    this.#canvas = canvas;
    this.#context = canvas.getContext('2d');
    this.#onChange = onChange;
    canvas.addEventListener('pointerdown', (event) => this.#begin(event));
    canvas.addEventListener('pointermove', (event) => this.#move(event));
    for (const name of ['pointerup', 'pointercancel']) canvas.addEventListener(name, (event) => this.#end(event));
    canvas.addEventListener('keydown', (event) => this.#key(event));
    canvas.addEventListener('blur', () => this.#showPen(false));
    new ResizeObserver(() => this.#resize()).observe(canvas);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#draw());
  }

  get strokes() {
    return this.#strokes;
  }

  clear() {
    this.#strokes = [];
    this.#pen.isDown = false;
    this.#changed(true);
  }

  undo() {
    this.#strokes.pop();
    this.#pen.isDown = false;
    this.#changed(true);
  }

  #begin(event) {
    if (event.button !== 0 || this.#pointer !== null) return;
    event.preventDefault();
    this.#canvas.setPointerCapture(event.pointerId);
    this.#pointer = event.pointerId;
    this.#strokes.push([this.#point(event)]);
    this.#changed(false);
  }

  #move(event) {
    if (event.pointerId !== this.#pointer) return;
    const events = event.getCoalescedEvents?.() ?? [];
    this.#strokes.at(-1).push(...(events.length ? events : [event]).map((each) => this.#point(each)));
    this.#changed(false);
  }

  #end(event) {
    if (event.pointerId !== this.#pointer) return;
    this.#pointer = null;
    this.#changed(true);
  }

  #key(event) {
    const moves = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
    if (event.key === 'Escape') {
      this.clear();
    } else if (event.key === ' ') {
      this.#pen.isDown = !this.#pen.isDown;
      if (this.#pen.isDown) this.#strokes.push([{x: this.#pen.x, y: this.#pen.y}]);
      this.#changed(true);
    } else if (moves[event.key]) {
      const [x, y] = moves[event.key];
      this.#pen.x = clamp(this.#pen.x + x * STEP);
      this.#pen.y = clamp(this.#pen.y + y * STEP);
      if (this.#pen.isDown) this.#strokes.at(-1).push({x: this.#pen.x, y: this.#pen.y});
      if (this.#pen.isDown) this.#changed(true);
    } else {
      return;
    }
    event.preventDefault();
    this.#showPen(true);
  }

  #showPen(isShown) {
    this.#pen.isShown = isShown;
    this.#draw();
  }

  #point(event) {
    const box = this.#canvas.getBoundingClientRect();
    return {x: clamp((event.clientX - box.left) / box.width), y: clamp((event.clientY - box.top) / box.height)};
  }

  #changed(isFinished) {
    this.#draw();
    this.#onChange(this.#strokes, isFinished);
  }

  #resize() {
    const side = Math.round(this.#canvas.clientWidth * devicePixelRatio);
    if (side === 0 || side === this.#canvas.width) return;
    this.#canvas.width = this.#canvas.height = side;
    this.#draw();
  }

  #draw() {
    const context = this.#context;
    const side = this.#canvas.width;
    const ink = getComputedStyle(this.#canvas).color;
    context.clearRect(0, 0, side, side);
    Object.assign(context, {lineCap: 'round', lineJoin: 'round', lineWidth: side * 0.065, strokeStyle: ink});
    for (const stroke of this.#strokes) trace(context, stroke, ({x, y}) => [x * side, y * side]);
    if (!this.#pen.isShown) return;
    context.beginPath();
    context.arc(this.#pen.x * side, this.#pen.y * side, side * 0.025, 0, 2 * Math.PI);
    Object.assign(context, {lineWidth: side * 0.008, fillStyle: ink});
    if (this.#pen.isDown) context.fill();
    else context.stroke();
  }
}

/** Draws a stroke smoothly: curves through the middles between its points. */
export function trace(context, stroke, place) {
  const points = stroke.map(place);
  context.beginPath();
  context.moveTo(...points[0]);
  for (let index = 1; index < points.length - 1; index += 1) {
    const [x, y] = points[index];
    const [nextX, nextY] = points[index + 1];
    context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
  }
  // A line of no length still draws its round cap: a dot.
  context.lineTo(...points.at(-1));
  context.stroke();
}

function clamp(value) {
  return Math.min(1, Math.max(0, value));
}
