/** Draw a digit: strokes -> 8x8 pixels -> answer, experts, times. */
import {loadMoe, readTable} from '../moe.js';
import {digitImage} from './digit_image.js';
import {DrawingPad} from './drawing_pad.js';
import {MixtureView, describeExperts} from './mixture_view.js';
import {ModeChoice} from './mode_choice.js';
import {ProbabilityBars, percent} from './probability_bars.js';
import {fetchBytes} from './site_files.js';
import {svg} from './svg.js';

const SIDE = 8;
const DOT = 80 / SIDE;

/** Opens the model and makes the panel live. @return {Promise<import('../moe.js').Mixture>} */
export async function startDrawPanel(root, {onProgress}) {
  const moe = await loadMoe(await fetchBytes('models/digits.tflite'), {source: 'digits.tflite', onProgress});
  const find = (id) => root.querySelector(`#${id}`);
  const [label, confidence, live, hint] = ['draw-label', 'draw-confidence', 'draw-live', 'pad-hint'].map(find);
  const bars = new ProbabilityBars(find('draw-bars'), moe.labels);
  const view = new MixtureView(find('draw-mixture'), {numExperts: moe.numExperts, inputLabel: 'what the model sees'});
  const dots = Array.from({length: SIDE * SIDE}, (_, index) => {
    const at = {x: (index % SIDE) * DOT, y: Math.floor(index / SIDE) * DOT};
    return svg('rect', {...at, width: DOT - 1, height: DOT - 1, rx: 2, class: 'dot'});
  });
  view.input.append(...dots);
  const modes = new ModeChoice(find('draw-modes'), moe, {name: 'draw-mode', onChange: () => show(true)});
  let row = null;
  let asked = 0;

  async function show(isFinished) {
    const turn = (asked += 1);
    hint.hidden = row !== null;
    dots.forEach((dot, index) => {
      dot.style.fillOpacity = row ? row[index] / 16 : 0;
    });
    if (row === null) {
      label.textContent = '–';
      confidence.textContent = 'waiting for a digit';
      bars.show(null);
      view.show(null);
      return;
    }
    const answer = await modes.answer(row);
    if (turn !== asked) return; // a later stroke has been answered since, or will be
    label.textContent = answer.label;
    confidence.textContent = `${percent(answer.confidence)} sure`;
    bars.show(answer.prediction);
    view.show(answer, answer.label);
    if (!isFinished) return;
    live.textContent = `${answer.label}, ${percent(answer.confidence)} sure. ${describeExperts(answer)}`;
    modes.measureSoon(row);
  }

  let frame = null;
  const pad = new DrawingPad(find('pad'), {
    onChange: (strokes, isFinished) => {
      // Pens report more often than screens show.
      cancelAnimationFrame(frame);
      const look = () => {
        row = digitImage(strokes);
        show(isFinished);
      };
      if (isFinished) look();
      else frame = requestAnimationFrame(look);
    },
  });
  find('clear').addEventListener('click', () => pad.clear());
  find('undo').addEventListener('click', () => pad.undo());
  let samples = null;
  let next = 0;
  find('sample').addEventListener('click', async () => {
    samples ??= readTable(await fetchBytes('models/digits-rows.csv'), moe.schema, 'digits-rows.csv');
    pad.clear();
    row = samples.rows[next % samples.rows.length];
    next += 1;
    show(true);
  });
  if (pad.strokes.length) row = digitImage(pad.strokes);
  await show(true);
  return moe;
}
