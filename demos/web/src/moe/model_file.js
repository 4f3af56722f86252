/**
 * What a .tflite of moe-edge says of itself, and whether its bytes are whole: docs/FILE_FORMAT.md.
 *
 * Slots are those of the public schema, file identifier TFL3. ByteBuffer reads 0 beyond the end, so lengths and places
 * are checked here; the digests then find any damage before the runtime sees the file.
 */
import {ByteBuffer} from 'flatbuffers';
import {MoeError} from './moe_error.js';

const MANIFEST = 'moe_edge_manifest';
const DIGESTS = 'moe_edge_sha256';
const DIGEST_BYTES = 32;
const FORMAT_VERSION = 1;
const MODEL = {subgraphs: 2, buffers: 4, metadata: 6, signatures: 7};
const BUFFER = {data: 0, offset: 1, size: 2};
const TENSOR = {shape: 0, type: 1, shapeSignature: 7};
const SIGNATURE = {inputs: 0, outputs: 1, key: 2, subgraph: 4};
const TYPES = ['float32', 'float16', 'int32', 'uint8', 'int64', 'string', 'bool', 'int16', 'complex64', 'int8'];
const OTHER_KINDS = [
  ['PK', 'a zip or .keras archive: convert it with moe-edge convert'],
  ['\x89HDF', 'an HDF5 file: convert the model with moe-edge convert'],
  ['\x1f\x8b', 'a gzip file: unpack it first'],
  ['version https://git-lfs', 'a Git LFS pointer: fetch the file itself'],
  ['<', 'a web page: the address was probably wrong'],
];

/**
 * @typedef {object} ModelFile
 * @property {object} manifest See moe_edge/manifest.py; defaults are filled in.
 * @property {Map<string, {inputs: Map, outputs: Map}>} signatures Each edge {shape: number[], dtype, isFixed}.
 * @property {string|null} digestNote Why the digests weren't compared, or null.
 */

/**
 * Reads and checks a file.
 *
 * @param {Uint8Array} bytes The file.
 * @param {string} source What messages call it.
 * @return {Promise<ModelFile>}
 */
export async function readModelFile(bytes, source) {
  checkStart(bytes, source);
  let parts;
  try {
    parts = readTables(bytes);
  } catch (error) {
    throw new MoeError(`${source}: expected a whole .tflite, got one that is truncated or damaged (${error.message})`);
  }
  const {metadata, signatures, head} = parts;
  const place = metadata.get(MANIFEST);
  if (!place) {
    throw new MoeError(
      `${source}: expected a .tflite written by moe-edge convert, got one of another tool, without a manifest`,
    );
  }
  const digestNote = await checkDigests(bytes, metadata.get(DIGESTS), head, source);
  return {manifest: readManifest(bytes.subarray(...place), source), signatures, digestNote};
}

function checkStart(bytes, source) {
  if (bytes.length === 0) throw new MoeError(`${source}: expected a .tflite, got an empty file`);
  const start = String.fromCharCode(...bytes.subarray(0, 64));
  if (start.slice(4, 8) === 'TFL3') return;
  const kind = OTHER_KINDS.find(([prefix]) => start.trimStart().startsWith(prefix));
  throw new MoeError(`${source}: expected a .tflite, got ${kind ? kind[1] : 'another kind of file'}`);
}

/** Follows offsets from the root; every place lies inside the file, else RangeError. */
function readTables(bytes) {
  const buffer = new ByteBuffer(bytes);
  const inside = (at, size = 4) => {
    if (!(at >= 0 && at + size <= bytes.length)) throw new RangeError(`a table points to byte ${at}`);
    return at;
  };
  const field = (table, slot) => {
    const vtable = inside(table - buffer.readInt32(inside(table)));
    const offset = buffer.__offset(table, 4 + 2 * slot);
    return offset && inside(vtable) >= 0 ? inside(table + offset) : 0;
  };
  const vector = (table, slot, width = 4) => {
    const at = field(table, slot);
    if (!at) return {length: 0, start: 0};
    const start = inside(buffer.__vector(at), 0);
    const length = buffer.__vector_len(at);
    inside(start, length * width);
    return {length, start};
  };
  const tables = (table, slot) => {
    const {length, start} = vector(table, slot);
    return Array.from({length}, (_, index) => inside(buffer.__indirect(start + 4 * index)));
  };
  const integers = (table, slot) => {
    const {length, start} = vector(table, slot);
    return Array.from({length}, (_, index) => buffer.readInt32(start + 4 * index));
  };
  const text = (table, slot) => {
    const {length, start} = vector(table, slot, 1);
    return new TextDecoder().decode(bytes.subarray(start, start + length));
  };
  const whole = (table, slot, read = 'readUint32') => {
    const at = field(table, slot);
    return at ? Number(buffer[read](at)) : 0;
  };

  const model = inside(buffer.readUint32(0));
  let head = bytes.length;
  const places = tables(model, MODEL.buffers).map((row) => {
    const offset = whole(row, BUFFER.offset, 'readUint64');
    if (offset > 1) {
      head = Math.min(head, offset);
      return [inside(offset, 0), inside(offset + whole(row, BUFFER.size, 'readUint64'), 0)];
    }
    const {length, start} = vector(row, BUFFER.data, 1);
    return [start, start + length];
  });
  const metadata = new Map(
    tables(model, MODEL.metadata).map((row) => [text(row, 0), places[whole(row, 1)] ?? [0, 0]]),
  );
  const subgraphs = tables(model, MODEL.subgraphs);
  const signatures = new Map(
    tables(model, MODEL.signatures).map((row) => {
      const subgraph = subgraphs[whole(row, SIGNATURE.subgraph)];
      if (subgraph === undefined) throw new RangeError('a signature names no subgraph');
      const tensors = tables(subgraph, 0);
      const edges = (slot) =>
        new Map(
          tables(row, slot).map((entry) => {
            const tensor = tensors[whole(entry, 1)];
            if (tensor === undefined) throw new RangeError('a signature names no tensor');
            const code = whole(tensor, TENSOR.type, 'readInt8');
            const shape = integers(tensor, TENSOR.shape);
            const isFixed = [...shape, ...integers(tensor, TENSOR.shapeSignature)].every((size) => size >= 1);
            return [text(entry, 0), {shape, dtype: TYPES[code] ?? `type ${code}`, isFixed}];
          }),
        );
      return [text(row, SIGNATURE.key), {inputs: edges(SIGNATURE.inputs), outputs: edges(SIGNATURE.outputs)}];
    }),
  );
  return {metadata, signatures, head};
}

/** Digest A covers what describes the model, digest B the weights; see moe_edge/runtime/integrity.py. */
async function checkDigests(bytes, place, head, source) {
  if (!place || place[1] - place[0] !== 2 * DIGEST_BYTES || place[1] > head) {
    throw new MoeError(`${source}: expected digests beside the manifest, got none; convert the model again`);
  }
  if (!globalThis.crypto?.subtle) {
    return 'bytes not compared with their digests: browsers do that on https and localhost only';
  }
  const [at] = place;
  const front = bytes.slice(0, head).fill(0, at, place[1]);
  const expected = bytes.subarray(at, place[1]);
  const found = await Promise.all([front, bytes.subarray(head)].map((part) => crypto.subtle.digest('SHA-256', part)));
  found.forEach((digest, index) => {
    const stored = expected.subarray(index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES);
    if (!new Uint8Array(digest).every((byte, position) => byte === stored[position])) {
      throw new MoeError(`${source}: the file is damaged: its digest differs; copy or convert it again`);
    }
  });
  return null;
}

function readManifest(content, source) {
  let manifest;
  try {
    manifest = JSON.parse(new TextDecoder('utf-8', {fatal: true}).decode(content));
  } catch (error) {
    throw new MoeError(`${source}: the manifest inside can't be read (${error.message}); convert the model again`);
  }
  if (!(manifest?.format_version <= FORMAT_VERSION)) {
    throw new MoeError(
      `${source}: expected manifest version ${FORMAT_VERSION} or older, got ${manifest?.format_version}; ` +
        'take a newer page',
    );
  }
  for (const key of ['task', 'combine', 'num_experts', 'schema', 'parts', 'input_shape']) {
    if (manifest[key] === undefined) throw new MoeError(`${source}: the manifest lacks ${key}; convert the model again`);
  }
  return {top_k: null, mass: null, io: 'float32', extras: {}, ...manifest, golden: manifest.golden ?? {}};
}
