/** One open model: answers rows, whole or routed. */
import {chooseExperts, planRouting, routingObstacle} from './expert_choice.js';
import {FeatureSchema} from './feature_schema.js';
import {MoeError} from './moe_error.js';
import {inTurn} from './runtime.js';
import {compareWithGolden, heaviest} from './self_test.js';
import {callSignature} from './signature_call.js';

const GATE_OUTPUTS = new Set(['routing_weights', 'features']);

/**
 * @typedef {object} Answer
 * @property {Float32Array} prediction (K,): probabilities in the order of `labels`, or numbers.
 * @property {Float32Array} routingWeights (E,): how much each expert counted.
 * @property {string|null} label The likeliest class; null for a regression.
 * @property {number|null} confidence Its probability.
 * @property {number} expertsRun How many experts ran.
 * @property {Float32Array} [sigma] (K,), Gaussian experts: standard deviation.
 * @property {Float32Array} [expertMeans] (E * K,), Gaussian experts.
 * @property {Float32Array} [expertSigmas] (E * K,), Gaussian experts.
 * @property {number} [gateLogDensity] Gaussian gates: how usual the row is.
 */
export class Mixture {
  #compiled;
  #runners;
  #file;
  #obstacle;

  /** Use `loadMoe`. */
  constructor(compiled, file, {source, numBytes}) {
    this.#compiled = compiled;
    this.#runners = compiled.signatures;
    this.#file = file;
    this.#obstacle = routingObstacle(file.manifest, file.signatures);
    /** What messages call the file. */
    this.source = source;
    this.numBytes = numBytes;
    /** What the file says of itself, see moe_edge/manifest.py. */
    this.manifest = file.manifest;
    this.schema = new FeatureSchema(file.manifest);
    this.labels = file.manifest.schema.labels;
    this.task = file.manifest.task;
    this.numExperts = file.manifest.num_experts;
    this.digestNote = file.digestNote;
    const outputs = file.signatures.get('serving_default').outputs;
    this.hasSigma = outputs.has('sigma');
    this.hasGateDensity = outputs.has('gate_log_density');
    /** @type {{index: number, id: string, scheme: string, usage: number|null}[]} */
    this.experts = file.manifest.parts
      .filter((part) => part.role === 'expert')
      .map((part, index) => ({index, id: part.id, scheme: part.scheme ?? 'float32', usage: part.usage ?? null}));
  }

  /** Why `route` can't run this file, or null. */
  get routingObstacle() {
    return this.#obstacle;
  }

  /**
   * How `route` runs without options: as many experts as the model was trained with, those that hold the mass that
   * `convert` measured, or, where neither is known, 99 % of the gate's weight.
   *
   * @return {{topK?: number, mass?: number}}
   */
  get defaultRouting() {
    const {top_k: topK, mass, num_experts: total} = this.manifest;
    if (topK && topK < total) return {topK};
    return {mass: mass ?? 0.99};
  }

  /**
   * Answers a row with all experts, in one graph.
   *
   * @param {ArrayLike<number>|Object<string, number|string>} row See `FeatureSchema.encodeRow`.
   * @return {Promise<Answer>}
   */
  predict(row) {
    return this.#inTurn(row, async (values) => {
      const outputs = await this.#call('serving_default', {x: values});
      return this.#answer(outputs, outputs.routing_weights, this.numExperts);
    });
  }

  /**
   * Answers a row with the experts that it needs: gate, then those, then their combination.
   *
   * @param {ArrayLike<number>|Object<string, number|string>} row
   * @param {{mass?: number, topK?: number, maxExperts?: number}} [options] See `planRouting`; by default
   *     `defaultRouting`.
   * @return {Promise<Answer>} `routingWeights` are those that counted.
   */
  route(row, options = this.defaultRouting) {
    return this.#inTurn(row, async (values) => {
      if (this.#obstacle) throw new MoeError(`${this.source}: ${this.#obstacle}`);
      const chosen = planRouting(this.manifest, options);
      const gate = await this.#call('gate', {x: values});
      const weights = new Float32Array(this.numExperts);
      const shape = this.#file.signatures.get('combine').inputs.get('outputs').shape;
      const stacked = new Float32Array(shape.reduce((product, size) => product * size, 1));
      const width = shape.at(-1);
      const experts = chooseExperts(gate.routing_weights, chosen);
      for (const {expert, share} of experts) {
        const {output} = await this.#call(`expert_${expert}`, {features: gate.features});
        stacked.set(output, expert * width);
        weights[expert] = share;
      }
      const outputs = await this.#call('combine', {routing_weights: weights, outputs: stacked});
      for (const [name, output] of Object.entries(gate)) if (!GATE_OUTPUTS.has(name)) outputs[name] = output;
      return this.#answer(outputs, weights, experts.length);
    });
  }

  /**
   * Answers the rows stored in the file, dense and, where the file can, routed to all experts.
   *
   * @return {Promise<object>} See `compareWithGolden`; `notRouted` says why routed didn't run, or is null.
   */
  async selfTest() {
    const modes = {dense: (row) => this.predict(row)};
    if (!this.#obstacle) modes.routed = (row) => this.route(row, {mass: 1});
    return {...(await compareWithGolden(this.manifest, modes)), notRouted: this.#obstacle};
  }

  /** Frees the model's memory; a second call does nothing. */
  async dispose() {
    await inTurn(() => {
      this.#compiled?.delete();
      this.#compiled = this.#runners = null;
    });
  }

  #inTurn(row, work) {
    return inTurn(() => {
      if (!this.#compiled) throw new MoeError(`${this.source}: this model was disposed of; load it again`);
      return work(this.schema.encodeRow(row));
    });
  }

  #call(name, arrays) {
    const {inputs} = this.#file.signatures.get(name);
    const given = Object.fromEntries(
      Object.entries(arrays).map(([input, values]) => [input, {values, shape: inputs.get(input).shape}]),
    );
    return callSignature(this.#runners[name], given);
  }

  #answer(outputs, routingWeights, expertsRun) {
    const {prediction} = outputs;
    const best = this.task === 'classification' ? heaviest(prediction) : null;
    const answer = {
      prediction,
      routingWeights,
      label: best === null ? null : this.labels[best],
      confidence: best === null ? null : prediction[best],
      expertsRun,
    };
    if (outputs.sigma) answer.sigma = outputs.sigma;
    if (outputs.expert_means) answer.expertMeans = outputs.expert_means;
    if (outputs.expert_sigmas) answer.expertSigmas = outputs.expert_sigmas;
    if (outputs.gate_log_density) [answer.gateLogDensity] = outputs.gate_log_density;
    return answer;
  }
}
