/** A table's cells as the numbers that the graph takes: the rules of moe_edge/schema.py and input_rows.py. */
import {MoeError} from './moe_error.js';

/** Texts that mean "no value", on the desktop and here alike. */
const MISSING = new Set(['', 'NA', 'N/A', 'n/a', 'NaN', 'nan', 'null', 'NULL', 'None', '?']);
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const NOT_A_NUMBER = /^[+-]?nan$/i;
const LARGEST = 3.4028234663852886e38;

export class FeatureSchema {
  /** @param {object} manifest What the file says of itself. */
  constructor(manifest) {
    this.columns = manifest.schema.columns.map((column) => ({kind: 'numeric', categories: [], ...column}));
    this.names = this.columns.map((column) => column.name);
    this.labels = manifest.schema.labels;
    this.target = manifest.schema.target;
    this.inputShape = manifest.input_shape;
    this.numValues = manifest.input_shape.reduce((product, size) => product * size, 1);
    this.takesMissing = manifest.parts.some((part) => part.role === 'preprocess');
  }

  /**
   * One row, checked.
   *
   * @param {ArrayLike<number|string|null>|Object<string, number|string|null>} row Values in the model's order
   *     (categories as codes, or as texts), or a mapping of columns. NaN, null and texts such as "NA" are missing values.
   * @param {number} [number] The row's number, for messages.
   * @return {Float32Array}
   */
  encodeRow(row, number = 1) {
    let cells = row;
    if (row === null || typeof row !== 'object') throw new MoeError(`row ${number}: expected values, got ${row}`);
    if (!Array.isArray(row) && !ArrayBuffer.isView(row)) {
      this.checkColumns(Object.keys(row));
      cells = this.names.map((name) => row[name]);
    }
    if (cells.length !== this.numValues) {
      throw new MoeError(`row ${number}: expected ${this.numValues} values, got ${cells.length}`);
    }
    // Windows and images have one column a value only where they were tables.
    const columns = this.columns.length === cells.length ? this.columns : null;
    const values = new Float32Array(cells.length);
    for (let index = 0; index < cells.length; index += 1) {
      const column = columns?.[index];
      const cell = cells[index];
      const value =
        typeof cell === 'number' ? (column?.kind === 'categorical' ? checkCode(column, cell, number) : cell)
        : encodeCell(column ?? {name: `value ${index}`, kind: 'numeric', categories: []}, cell, number);
      values[index] = value;
      if (Number.isFinite(values[index]) || (Number.isNaN(value) && this.takesMissing)) continue;
      const advice = this.takesMissing ? 'use NaN for a missing value' : 'this model takes no missing values: fill it';
      const place = column ? `column '${column.name}'` : `value ${index}`;
      throw new MoeError(`row ${number}, ${place}: expected a finite float32 number, got ${cell}; ${advice}`);
    }
    return values;
  }

  /** Refuses a table that lacks a feature column. */
  checkColumns(names) {
    const came = new Set(names);
    const missing = this.names.filter((name) => !came.has(name));
    if (missing.length === 0) return;
    throw new MoeError(
      `missing column${missing.length > 1 ? 's' : ''} ${shorten(missing)}: expected ${shorten(this.names)}, ` +
        `got ${shorten([...came])}`,
    );
  }
}

/** @return {number} What the graph takes for one cell of a table; NaN when it is missing. */
export function encodeCell(column, cell, number) {
  if (cell === null || cell === undefined) return NaN;
  const text = String(cell).trim();
  if (MISSING.has(text) && !column.categories.includes(text)) return NaN;
  const where = `row ${number}, column '${column.name}'`;
  if (column.kind === 'categorical') {
    const code = column.categories.indexOf(text);
    if (code >= 0) return code;
    throw new MoeError(
      `${where}: expected a category seen in training, got '${text}'; known: ${shorten(column.categories)}`,
    );
  }
  if (NOT_A_NUMBER.test(text)) return NaN;
  if (!NUMBER.test(text)) throw new MoeError(`${where}: expected a number, got '${text}'`);
  const value = Number(text);
  if (Math.abs(value) > LARGEST) throw new MoeError(`${where}: expected a finite float32 number, got '${text}'`);
  return value;
}

function checkCode(column, code, number) {
  const count = column.categories.length;
  if (Number.isNaN(code) || (Number.isInteger(code) && code >= 0 && code < count)) return code;
  throw new MoeError(
    `row ${number}, column '${column.name}': expected a category's code in [0, ${count}), got ${code}; ` +
      'pass the text itself to have it looked up',
  );
}

function shorten(names, limit = 8) {
  const shown = names.slice(0, limit).map((name) => `'${name}'`).join(', ');
  return names.length > limit ? `${shown} and ${names.length - limit} more` : shown;
}
