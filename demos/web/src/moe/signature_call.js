/** Runs one signature by name, and deletes its tensors: LiteRT.js has no garbage collection for them. */
import {Tensor} from '@litertjs/core';

/**
 * @param {import('@litertjs/core').SignatureRunner} runner
 * @param {Object<string, {values: Float32Array, shape: number[]}>} inputs
 * @return {Promise<Object<string, Float32Array>>} Name of each output -> a copy of its values.
 */
export async function callSignature(runner, inputs) {
  const tensors = {};
  let outputs = {};
  try {
    for (const [name, {values, shape}] of Object.entries(inputs)) tensors[name] = new Tensor(values, shape);
    outputs = await runner.run(tensors);
    const answers = {};
    for (const [name, tensor] of Object.entries(outputs)) answers[name] = tensor.toTypedArray();
    return answers;
  } finally {
    for (const tensor of [...Object.values(tensors), ...Object.values(outputs)]) tensor.delete();
  }
}
