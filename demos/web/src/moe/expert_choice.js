/** Which experts a row gets, and what each counts: the rules of moe_edge/runtime/modes.py and expert_choice.py. */
import {MoeError} from './moe_error.js';

const ROUTABLE = new Set(['probabilities', 'gaussian']);
/** Absorbs the rounding of a sum of weights. */
const SUM_ERROR = 1e-9;

/**
 * Why a file can't run routed, or null.
 *
 * @param {object} manifest
 * @param {Map} signatures
 */
export function routingObstacle(manifest, signatures) {
  if (!ROUTABLE.has(manifest.combine)) {
    return `it combines by ${manifest.combine}, whose experts answer only together; use predict`;
  }
  const experts = Array.from({length: manifest.num_experts}, (_, index) => `expert_${index}`);
  const missing = ['gate', 'combine', ...experts].find((name) => !signatures.has(name));
  return missing ? `it has no signature '${missing}', so its experts can't run alone; use predict` : null;
}

/**
 * Decides what runs.
 *
 * @param {object} manifest
 * @param {object} [request]
 * @param {number} [request.mass] Run experts, heaviest first, until their weights reach this, in (0, 1]; 1 runs all.
 * @param {number} [request.topK] Run so many; instead of `mass`.
 * @param {number} [request.maxExperts] With `mass`: at most so many.
 * @return {{mass: number|null, limit: number, isExact: boolean}}
 */
export function planRouting(manifest, {mass = null, topK = null, maxExperts = null} = {}) {
  const total = manifest.num_experts;
  const trained = manifest.top_k ?? total;
  if (mass !== null && !(mass > 0 && mass <= 1)) throw new MoeError(`expected 0 < mass <= 1, got ${mass}`);
  if (mass !== null && topK !== null) throw new MoeError('expected topK or mass, got both; cap the mass with maxExperts');
  for (const [name, value] of Object.entries({topK, maxExperts})) {
    if (value !== null && !(Number.isInteger(value) && value >= 1 && value <= trained)) {
      throw new MoeError(`expected ${name} in [1, ${trained}], the experts that count for a row, got ${value}`);
    }
  }
  let wanted = mass;
  if (wanted === null && topK === null && trained === total) {
    wanted = manifest.mass;
    if (wanted === null && maxExperts === null) {
      throw new MoeError(
        `this mixture was trained with all its ${total} experts and has no measured mass; ` +
          'say how many to run: {mass: 0.99} or {topK: 2}',
      );
    }
  }
  const limit = Math.min(topK ?? trained, maxExperts ?? trained);
  if (wanted === 1) wanted = null;
  return {mass: wanted, limit, isExact: wanted === null && limit === trained};
}

/**
 * The experts of one row, heaviest first, and what each counts.
 *
 * @param {Float32Array} weights The gate's, (E,).
 * @param {{mass: number|null, limit: number, isExact: boolean}} plan
 * @return {{expert: number, share: number}[]} Shares sum to 1 unless exact. Of equal weights the lower index comes first.
 */
export function chooseExperts(weights, plan) {
  const order = Array.from(weights.keys()).sort((one, other) => weights[other] - weights[one] || one - other);
  const enough = plan.mass === null ? Infinity : plan.mass - SUM_ERROR;
  const chosen = [];
  let total = 0;
  for (const expert of order) {
    const share = weights[expert];
    if (chosen.length && !(share > 0)) break;
    chosen.push({expert, share});
    total += share;
    if (total >= enough || chosen.length === plan.limit) break;
  }
  if (plan.isExact) return chosen;
  return chosen.map(({expert, share}) => ({expert, share: total > 0 ? share / total : 1 / chosen.length}));
}
