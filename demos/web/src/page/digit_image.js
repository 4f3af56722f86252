/**
 * Strokes as the digits model knows digits: 8x8 pixels from 0 to 16.
 *
 * The training images were scanned, scaled to fill 20x32 of a 32x32 bitmap whatever their proportions, brought to a
 * common amount of ink, and counted in blocks of 4x4. The same is done here, with strokes instead of bitmaps, so that
 * a thin pen on a large screen gives what a thick one on paper did.
 */
import {trace} from './drawing_pad.js';

const FIELD = 32;
const WIDTH = 20;
const BLOCK = 4;
const SIDE = FIELD / BLOCK;
/** Mean ink of the training images, of 1024: 303 (sevens) to 330 (eights). */
const INK = 312;
/** Strokes get no thinner or thicker than this, however much or little there is of them. */
const THINNEST = 3;
const THICKEST = 8;
/** Narrow digits are widened, but a stroke that is a mere line isn't blown up to a block. */
const MOST_WIDENING = 1.6;

let context;

/**
 * @param {{x: number, y: number}[][]} strokes
 * @return {Float32Array|null} (64,), row by row; null without strokes.
 */
export function digitImage(strokes) {
  const points = strokes.flat();
  if (points.length === 0) return null;
  context ??= new OffscreenCanvas(FIELD, FIELD).getContext('2d', {willReadFrequently: true});
  let width = 5;
  let alpha;
  // Ink grows about in proportion to the width of the strokes; three rounds come close enough.
  for (let round = 0; round < 4; round += 1) {
    alpha = render(strokes, points, width);
    const ink = alpha.reduce((sum, value) => sum + value, 0) / 255;
    const wanted = Math.min(THICKEST, Math.max(THINNEST, (width * INK) / Math.max(ink, 1)));
    if (Math.abs(wanted - width) < 0.05) break;
    width = wanted;
  }
  return countBlocks(alpha);
}

function render(strokes, points, width) {
  const [left, right] = range(points.map(({x}) => x));
  const [top, bottom] = range(points.map(({y}) => y));
  const tall = (FIELD - width) / Math.max(bottom - top, (right - left) * 0.4, 0.02);
  const wide = Math.min((WIDTH - width) / Math.max(right - left, 0.001), tall * MOST_WIDENING);
  const middle = {x: (left + right) / 2, y: (top + bottom) / 2};
  const place = ({x, y}) => [FIELD / 2 + (x - middle.x) * wide, FIELD / 2 + (y - middle.y) * tall];
  context.clearRect(0, 0, FIELD, FIELD);
  Object.assign(context, {lineCap: 'round', lineJoin: 'round', lineWidth: width, strokeStyle: '#000'});
  for (const stroke of strokes) trace(context, stroke, place);
  const {data} = context.getImageData(0, 0, FIELD, FIELD);
  return Uint8Array.from({length: FIELD * FIELD}, (_, index) => data[4 * index + 3]);
}

function countBlocks(alpha) {
  const pixels = new Float32Array(SIDE * SIDE);
  for (let index = 0; index < alpha.length; index += 1) {
    const row = Math.floor(index / FIELD / BLOCK);
    const column = Math.floor((index % FIELD) / BLOCK);
    pixels[row * SIDE + column] += alpha[index] / 255;
  }
  return pixels.map((value) => Math.min(16, Math.round(value)));
}

function range(values) {
  return [Math.min(...values), Math.max(...values)];
}
