/**
 * Starts LiteRT.js once a page, from files beside the page. The WebAssembly comes gzip-packed (9.4 MB become 2.8 MB
 * even where the host doesn't compress) and is unpacked here.
 */
import {loadLiteRt, supportsFeature} from '@litertjs/core';
import {MoeError} from './moe_error.js';

/** `relaxed` needs relaxed SIMD, `compat` any SIMD. Others of LiteRT.js (threads, JSPI) are slower on small models. */
export const VARIANTS = {relaxed: 'litert_wasm_internal', compat: 'litert_wasm_compat_internal'};

let started;
let broken;
let turn = Promise.resolve();

/**
 * Starts the runtime, or waits for the start that is under way.
 *
 * @param {object} [options]
 * @param {string|URL} [options.folder] Where the files of LiteRT.js are; by default `wasm/` beside this script.
 * @param {'relaxed'|'compat'} [options.variant] By default what this browser can run.
 * @param {(share: number) => void} [options.onProgress] Told how much has come, in [0, 1].
 * @return {Promise<{variant: string, heapBytes: () => number}>}
 */
export function startRuntime(options = {}) {
  started ??= start(options).catch((error) => {
    started = undefined;
    throw error;
  });
  return started;
}

async function start({folder = new URL('./wasm/', import.meta.url), variant, onProgress = () => {}}) {
  const chosen = variant ?? ((await supportsFeature('relaxedSimd')) ? 'relaxed' : 'compat');
  const name = VARIANTS[chosen];
  if (!name) throw new MoeError(`expected a variant among ${Object.keys(VARIANTS).join(', ')}, got ${variant}`);
  const place = new URL(folder, globalThis.location?.href);
  const wasmBinary = await fetchUnpacked(new URL(`${name}.wasm.gz.bin`, place), onProgress);
  globalThis.Module = {wasmBinary};
  let liteRt;
  try {
    liteRt = await loadLiteRt(new URL(`${name}.js`, place).href);
  } catch (error) {
    // A <script> that fails rejects with an Event, which has no message.
    throw new MoeError(`LiteRT.js can't start here: ${error?.message ?? 'its script did not load'}; reload the page`, {
      cause: error,
    });
  } finally {
    delete globalThis.Module;
  }
  return {variant: chosen, heapBytes: () => liteRt.liteRtWasm.HEAPU8.length};
}

/** Runs `work` after all work before it: one interpreter, one call at a time. */
export function inTurn(work) {
  const result = turn.then(() => {
    if (broken) throw broken;
    return work();
  });
  turn = result.catch((error) => {
    // After a trap the WebAssembly's memory is in no known state, and every later call fails.
    if (error instanceof WebAssembly.RuntimeError) {
      broken = new MoeError(`the runtime stopped on a model (${error.message}); reload the page`, {cause: error});
    }
  });
  return result;
}

async function fetchUnpacked(url, onProgress) {
  let response;
  try {
    response = await fetch(url);
  } catch (error) {
    throw new MoeError(`can't fetch the runtime from ${url.host}; go online and reload the page`, {cause: error});
  }
  if (!response.ok) throw new MoeError(`can't fetch the runtime: ${url.pathname} gives HTTP ${response.status}`);
  const bytes = await readAll(response, onProgress);
  // A host that declares a Content-Encoding has made the browser unpack it already.
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes.buffer;
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Response(unpacked).arrayBuffer();
}

async function readAll(response, onProgress) {
  const total = Number(response.headers.get('Content-Length'));
  const parts = [];
  let count = 0;
  for (const reader = response.body.getReader(); ; ) {
    const {done, value} = await reader.read();
    if (done) break;
    parts.push(value);
    count += value.length;
    if (total) onProgress(Math.min(1, count / total));
  }
  const bytes = new Uint8Array(count);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
