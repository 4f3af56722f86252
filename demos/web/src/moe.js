/**
 * Mixture-of-experts models of moe-edge in a web page, by LiteRT.js. Nothing leaves the page.
 *
 *     import {loadMoe} from './moe.js';
 *     const moe = await loadMoe(await (await fetch('digits.tflite')).arrayBuffer());
 *     const {label, confidence, routingWeights} = await moe.predict(row);
 */
import {loadAndCompile} from '@litertjs/core';
import {Mixture} from './moe/mixture.js';
import {readModelFile} from './moe/model_file.js';
import {MoeError} from './moe/moe_error.js';
import {inTurn, startRuntime} from './moe/runtime.js';

export {MoeError, startRuntime};
export {Mixture} from './moe/mixture.js';
export {answerColumns, readTable, writeAnswers} from './moe/table.js';

/** What tensors of LiteRT.js hold that this library fills and reads. */
const EDGES = new Set(['float32', 'int32']);

/**
 * Opens a model.
 *
 * @param {ArrayBuffer|Uint8Array} content A .tflite written by `moe-edge convert`.
 * @param {object} [options] Also those of `startRuntime`, which this call starts if nobody has.
 * @param {string} [options.source] What messages call the file.
 * @return {Promise<Mixture>}
 * @throws {MoeError} If the file is damaged, foreign, or LiteRT.js can't run it.
 */
export async function loadMoe(content, {source = 'the model', ...runtime} = {}) {
  const bytes = content instanceof Uint8Array ? content : new Uint8Array(content);
  const file = await readModelFile(bytes, source);
  checkEdges(file, source);
  await startRuntime(runtime);
  let compiled;
  try {
    compiled = await inTurn(() => loadAndCompile(bytes, {accelerator: 'wasm'}));
  } catch (error) {
    if (error instanceof MoeError) throw error;
    throw new MoeError(`${source}: LiteRT.js can't run this file: ${error?.message ?? error}`, {cause: error});
  }
  return new Mixture(compiled, file, {source, numBytes: bytes.length});
}

/** What LiteRT.js asks of every signature, told before it refuses the whole file in words of its own. */
function checkEdges({manifest, signatures}, source) {
  const serving = signatures.get('serving_default');
  if (!serving?.inputs.has('x') || !serving.outputs.has('prediction') || !serving.outputs.has('routing_weights')) {
    throw new MoeError(`${source}: expected the signature serving_default of a mixture, got ${[...signatures.keys()]}`);
  }
  for (const [name, {inputs, outputs}] of signatures) {
    for (const [edge, {dtype, isFixed, shape}] of [...inputs, ...outputs]) {
      if (!EDGES.has(dtype)) {
        throw new MoeError(
          `${source}: LiteRT.js takes and gives float32 or int32, ${edge} of ${name} is ${dtype}; ` +
            'convert the model with --target web',
        );
      }
      if (!isFixed) {
        throw new MoeError(
          `${source}: LiteRT.js needs fixed shapes, ${edge} of ${name} has a free dimension in [${shape}]; ` +
            'convert the model with --target web',
        );
      }
    }
  }
  const values = manifest.input_shape.reduce((product, size) => product * size, 1);
  const taken = serving.inputs.get('x').shape.reduce((product, size) => product * size, 1);
  if (values !== taken || serving.outputs.get('prediction').shape.at(-1) !== manifest.schema.labels.length) {
    throw new MoeError(`${source}: the graph doesn't fit its manifest; convert the model again`);
  }
}
