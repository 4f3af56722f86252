/** Compares the answers to the rows stored in a file with the stored answers: the rules of moe-edge verify. */
import {MoeError} from './moe_error.js';

/** Sums of floats in another order; on x86-64 the largest difference measured was 1.5e-7. */
const FLOAT_TOLERANCE = 1e-6;
/** For files from before routing was stored, whose answers have six digits. */
const OLD_FLOAT_TOLERANCE = 1e-5;
/** One step of an int8 probability, and a little for the stored answer's own rounding. */
const INT8_STEP = 1.001 / 256;
const FLOAT_SCHEMES = new Set(['float32', 'float16']);

/**
 * @param {object} manifest
 * @param {Object<string, (row: number[]) => Promise<object>>} modes Name of each mode -> what answers a row in it.
 * @return {Promise<object>} `numRows`, `tolerance`, `passed`, and `modes`: for each `mode`, `maxDifference`,
 *     `maxRoutingDifference` (null where no routing is stored) and `sameLabels` (null for a regression).
 */
export async function compareWithGolden(manifest, modes) {
  const {inputs = [], predictions = [], routing_weights: routing = null} = manifest.golden;
  if (inputs.length === 0 || predictions.length !== inputs.length) {
    throw new MoeError('expected golden vectors in the file, got none; convert the model again');
  }
  const isFloat = manifest.parts.every((part) => FLOAT_SCHEMES.has(part.scheme ?? 'float32'));
  const floatTolerance = routing?.length ? FLOAT_TOLERANCE : OLD_FLOAT_TOLERANCE;
  const tolerance = isFloat ? floatTolerance : INT8_STEP;
  const checks = [];
  for (const [mode, answer] of Object.entries(modes)) {
    const check = {
      mode,
      maxDifference: 0,
      maxRoutingDifference: routing ? 0 : null,
      sameLabels: manifest.task === 'classification' ? 0 : null,
    };
    for (const [index, row] of inputs.entries()) {
      const found = await answer(row.map((cell) => cell ?? NaN));
      check.maxDifference = Math.max(check.maxDifference, largestDifference(found.prediction, predictions[index]));
      if (routing) {
        const difference = largestDifference(found.routingWeights, routing[index]);
        check.maxRoutingDifference = Math.max(check.maxRoutingDifference, difference);
      }
      if (check.sameLabels !== null && heaviest(found.prediction) === heaviest(predictions[index])) {
        check.sameLabels += 1;
      }
    }
    checks.push(check);
  }
  const passed = checks.every(
    (check) => check.maxDifference <= tolerance && (check.maxRoutingDifference ?? 0) <= tolerance,
  );
  return {numRows: inputs.length, tolerance, passed, modes: checks};
}

/** @return {number} Index of the largest value; of equal ones the first. */
export function heaviest(values) {
  let best = 0;
  for (let index = 1; index < values.length; index += 1) if (values[index] > values[best]) best = index;
  return best;
}

/** Relative to the larger of 1 and what was expected; infinite where lengths differ or a value isn't finite. */
function largestDifference(got, expected) {
  if (got.length !== expected.length) return Infinity;
  let largest = 0;
  for (let index = 0; index < got.length; index += 1) {
    const difference = Math.abs(got[index] - expected[index]) / Math.max(1, Math.abs(expected[index]));
    if (!Number.isFinite(difference)) return Infinity;
    largest = Math.max(largest, difference);
  }
  return largest;
}
