/** Exercises from a smartwatch: a held-out person's recording, or this phone's own sensor, answered live. */
import {MoeError, loadMoe} from '../moe.js';
import {MixtureView, describeExperts} from './mixture_view.js';
import {ModeChoice} from './mode_choice.js';
import {listenToPhone} from './phone_motion.js';
import {ProbabilityBars, percent} from './probability_bars.js';
import {Resampler, SampleWindow} from './sample_window.js';
import {fetchBytes} from './site_files.js';
import {svg} from './svg.js';
import {TraceView} from './trace_view.js';

const CHANNELS = 6;
/** Samples from one answer to the next: a fifth of a second. */
const HOP = 10;
const SPARK = 80;

/** Opens model and recordings, and makes the panel live. */
export async function startMotionPanel(root, {onProgress}) {
  const [recordings, values] = await Promise.all([
    fetchBytes('models/motion-recordings.json').then((bytes) => JSON.parse(new TextDecoder().decode(bytes))),
    fetchBytes('models/motion-recordings.bin').then((bytes) => new Float32Array(bytes.buffer)),
  ]);
  const moe = await loadMoe(await fetchBytes('models/motion.tflite'), {source: 'motion.tflite', onProgress});
  const panel = new MotionPanel(root, moe, recordings, values);
  await panel.start();
}

class MotionPanel {
  #root;
  #moe;
  #recordings;
  #values;
  #window;
  #trace;
  #bars;
  #view;
  #modes;
  #spark;
  #answer = null;
  #isAnswering = false;
  #pending = null;
  #replay = {recording: null, at: 0, frame: null, lastMs: 0, due: 0};
  #stopSensor = null;
  #score = {right: 0, total: 0};
  #next = null;

  constructor(root, moe, recordings, values) {
    this.#root = root;
    this.#moe = moe;
    this.#recordings = recordings;
    this.#values = values;
    const length = moe.schema.numValues / CHANNELS;
    this.#window = new SampleWindow(length, HOP);
    this.#trace = new TraceView(this.#find('trace'), length);
    this.#bars = new ProbabilityBars(this.#find('motion-bars'), moe.labels.map(readable));
    this.#view = new MixtureView(this.#find('motion-mixture'), {
      numExperts: moe.numExperts,
      inputLabel: `${length / recordings.rateHz} seconds`,
    });
    this.#spark = ['x', 'y', 'z'].map((axis) => svg('path', {class: `spark ${axis}`}));
    this.#view.input.append(...this.#spark);
    this.#modes = new ModeChoice(this.#find('motion-modes'), moe, {
      name: 'motion-mode',
      onChange: () => this.#answerWindow(this.#pending),
    });
  }

  async start() {
    const select = this.#find('recording');
    this.#recordings.recordings.forEach(({subject, label}, index) => {
      select.add(new Option(`${readable(label)} · person ${subject}`, index));
    });
    select.addEventListener('change', () => this.#open(Number(select.value), true));
    this.#find('play').addEventListener('click', () => (this.#replay.frame ? this.#pause() : this.#play()));
    this.#find('sensor').addEventListener('click', () => this.#toggleSensor());
    document.addEventListener('visibilitychange', () => document.hidden && this.#pause());
    new MutationObserver(() => this.#root.hidden && this.#leave()).observe(this.#root, {attributeFilter: ['hidden']});
    this.#open(0, false);
    // Something to see before anybody presses play, also for who asked for less motion.
    for (let count = 0; count < 4 * this.#window.length && this.#step(); count += 1);
    await this.#settled();
  }

  #find(id) {
    return this.#root.querySelector(`#${id}`);
  }

  #open(index, isPlaying) {
    this.#pause();
    this.#stopListening();
    this.#clear();
    this.#replay.recording = this.#recordings.recordings[index];
    this.#replay.at = 0;
    this.#note();
    if (isPlaying) this.#play();
  }

  #clear() {
    this.#window.clear();
    this.#trace.clear();
    this.#answer = null;
    this.#score = {right: 0, total: 0};
  }

  #play() {
    this.#stopListening();
    if (this.#replay.at >= this.#replay.recording.length) {
      this.#clear();
      this.#replay.at = 0;
    }
    this.#find('play').textContent = 'Pause';
    this.#replay.lastMs = performance.now();
    this.#replay.due = 0;
    const tick = (now) => {
      const speed = Number(this.#find('speed').value);
      // A tab that was away doesn't catch up in a leap.
      const passedMs = Math.min(100, Math.max(0, now - this.#replay.lastMs));
      this.#replay.lastMs = now;
      this.#replay.due += (passedMs / 1000) * this.#recordings.rateHz * speed;
      for (; this.#replay.due >= 1; this.#replay.due -= 1) {
        if (!this.#step()) return this.#pause();
      }
      this.#replay.frame = requestAnimationFrame(tick);
      return undefined;
    };
    this.#replay.frame = requestAnimationFrame(tick);
  }

  #pause() {
    if (this.#replay.frame) cancelAnimationFrame(this.#replay.frame);
    this.#replay.frame = null;
    this.#find('play').textContent = 'Play';
    if (this.#answer) this.#announce();
    if (this.#pending && !this.#root.hidden) this.#modes.measureSoon(this.#pending, 50);
  }

  /** Takes one sample of the recording; false at its end. */
  #step() {
    const {recording, at} = this.#replay;
    if (at >= recording.length) return false;
    const start = (recording.start + at) * CHANNELS;
    this.#replay.at += 1;
    this.#take(Array.from(this.#values.subarray(start, start + CHANNELS)), recording.label);
    return true;
  }

  #take(sample, truth) {
    const window = this.#window.push(sample);
    this.#trace.push(sample, this.#answer?.routingWeights ?? null);
    if (window) this.#answerWindow(window, truth);
  }

  /** Answers a window; while one is being answered only the newest waits. */
  async #answerWindow(window, truth) {
    if (!window) return;
    this.#pending = window;
    this.#find('motion-note').dataset.windows = Number(this.#find('motion-note').dataset.windows ?? 0) + 1;
    if (this.#isAnswering) {
      this.#next = {window, truth};
      return;
    }
    this.#isAnswering = true;
    try {
      const answer = await this.#modes.answer(window);
      this.#answer = answer;
      if (truth !== undefined) {
        this.#score.total += 1;
        this.#score.right += answer.label === truth;
      }
      this.#show(window, answer);
    } finally {
      this.#isAnswering = false;
    }
    const next = this.#next;
    this.#next = null;
    if (next) await this.#answerWindow(next.window, next.truth);
  }

  async #settled() {
    while (this.#isAnswering) await new Promise((resolve) => setTimeout(resolve, 5));
    if (this.#pending) this.#modes.measureSoon(this.#pending, 50);
  }

  #show(window, answer) {
    this.#find('motion-label').textContent = readable(answer.label);
    this.#find('motion-confidence').textContent = `${percent(answer.confidence)} sure`;
    this.#bars.show(answer.prediction);
    this.#view.show(answer, readable(answer.label));
    drawSpark(this.#spark, window);
    this.#note();
  }

  #note() {
    const {recording} = this.#replay;
    const {right, total} = this.#score;
    this.#find('motion-note').textContent = this.#stopSensor
      ? 'Live from this device. The model knows seven shoulder exercises, recorded at the wrist.'
      : `In truth: ${readable(recording.label)}, done by person ${recording.subject}, whom training never saw.` +
        (total ? ` ${right} of ${total} windows right.` : '');
  }

  #announce() {
    this.#find('motion-live').textContent =
      `${readable(this.#answer.label)}, ${percent(this.#answer.confidence)} sure. ${describeExperts(this.#answer)}`;
  }

  async #toggleSensor() {
    if (this.#stopSensor) {
      this.#stopListening();
      return;
    }
    this.#pause();
    const {rateHz, units} = this.#recordings;
    const resampler = new Resampler(rateHz);
    const fail = (error) => {
      this.#stopListening();
      if (!(error instanceof MoeError)) console.error(error);
      this.#find('motion-note').textContent = error.message;
    };
    try {
      this.#stopSensor = await listenToPhone({
        units,
        onSample: (timeMs, values) => {
          for (const sample of resampler.push(timeMs, values)) this.#take(sample);
        },
        onSilence: fail,
      });
    } catch (error) {
      fail(error);
      return;
    }
    this.#clear();
    this.#find('sensor').textContent = 'Stop the sensor';
    this.#note();
  }

  #stopListening() {
    this.#stopSensor?.();
    this.#stopSensor = null;
    this.#find('sensor').textContent = "This phone's sensor";
  }

  #leave() {
    this.#pause();
    this.#stopListening();
  }
}

/** The last window's first three channels, as small lines. */
function drawSpark(paths, window) {
  const length = window.length / CHANNELS;
  const most = Math.max(1e-6, ...window.filter((_, index) => index % CHANNELS < 3).map(Math.abs));
  paths.forEach((path, channel) => {
    const points = Array.from({length}, (_, index) => {
      const y = SPARK / 2 - (window[index * CHANNELS + channel] / most) * (SPARK / 2 - 6);
      return `${((index / (length - 1)) * SPARK).toFixed(1)} ${y.toFixed(1)}`;
    });
    path.setAttribute('d', `M${points.join('L')}`);
  });
}

function readable(label) {
  return label.replaceAll('_', ' ');
}
