/** Tables in and out: a .csv becomes checked rows, answers become a .csv like that of moe-edge predict --explain. */
import Papa from 'papaparse';
import {MoeError} from './moe_error.js';

/**
 * Reads a comma-separated table with a header line, in UTF-8.
 *
 * @param {Uint8Array} bytes The file.
 * @param {import('./feature_schema.js').FeatureSchema} schema The model's columns; others are left out.
 * @param {string} source What messages call the file.
 * @return {{rows: Float32Array[], targets: string[]|null}} The rows in the model's order, and the target's texts where
 *     the table has that column.
 */
export function readTable(bytes, schema, source) {
  let text;
  try {
    text = new TextDecoder('utf-8', {fatal: true}).decode(bytes).replace(/\r\n?/g, '\n');
  } catch {
    throw new MoeError(`${source}: expected UTF-8 text; save the table as UTF-8`);
  }
  let header = null;
  let places = [];
  let target = -1;
  const rows = [];
  const targets = [];
  let line = 1;
  let read = 0;
  Papa.parse(text, {
    delimiter: ',',
    newline: '\n',
    step: ({data: cells, errors, meta}) => {
      // Where the row began; a quoted cell may span lines.
      const where = `${source}, line ${line}`;
      line += text.slice(read, meta.cursor).split('\n').length - 1;
      read = meta.cursor;
      if (cells.length === 1 && cells[0] === '') return;
      if (errors.length) throw new MoeError(`${where}: expected comma-separated values, got ${errors[0].message}`);
      if (header === null) {
        header = cells.map((name) => name.trim());
        places = findColumns(header, schema, source);
        target = header.indexOf(schema.target);
        return;
      }
      if (cells.length !== header.length) {
        throw new MoeError(`${where}: expected ${header.length} values as in the header, got ${cells.length}`);
      }
      try {
        rows.push(schema.encodeRow(places.map((at) => cells[at]), rows.length + 1));
      } catch (error) {
        if (error instanceof MoeError) throw new MoeError(`${where}: ${error.message}`);
        throw error;
      }
      if (target >= 0) targets.push(cells[target].trim());
    },
  });
  if (header === null) throw new MoeError(`${source}: expected a header line with column names, got an empty file`);
  if (rows.length === 0) throw new MoeError(`${source}: expected rows to answer, got none`);
  return {rows, targets: target >= 0 ? targets : null};
}

function findColumns(header, schema, source) {
  try {
    schema.checkColumns(header);
  } catch (error) {
    for (const [separator, name] of [[';', 'semicolons'], ['\t', 'tabs']]) {
      if (header[0].includes(separator)) {
        throw new MoeError(
          `${source}: expected values separated by commas, got ${name}; save it with commas and decimal points`,
        );
      }
    }
    throw new MoeError(`${source}: ${error.message}`);
  }
  const twice = schema.names.find((name) => header.indexOf(name) !== header.lastIndexOf(name));
  if (twice !== undefined) {
    throw new MoeError(`${source}: expected each column once, got '${twice}' twice; rename or drop one`);
  }
  return schema.names.map((name) => header.indexOf(name));
}

/**
 * Answers as text.
 *
 * @param {import('./mixture.js').Mixture} moe
 * @param {import('./mixture.js').Answer[]} answers
 * @param {{isRouted?: boolean}} [options]
 * @return {string} A .csv with the columns of `moe-edge predict --explain`.
 */
export function writeAnswers(moe, answers, {isRouted = false} = {}) {
  const {header, cells} = answerColumns(moe, {isRouted});
  return Papa.unparse({fields: header, data: answers.map(cells)}, {newline: '\n'}) + '\n';
}

/**
 * The columns of a table of answers.
 *
 * @return {{header: string[], cells: (answer: object) => string[]}}
 */
export function answerColumns(moe, {isRouted = false} = {}) {
  const isClass = moe.task === 'classification';
  const suffixes = moe.labels.length === 1 ? [''] : moe.labels.map((label) => `(${label})`);
  const usual = moe.manifest.extras?.gate_log_density?.quantiles?.['0.01'];
  const hasUsual = moe.hasGateDensity && typeof usual === 'number';
  const header = [
    ...(isClass ? ['label', 'confidence', ...moe.labels.map((label) => `p(${label})`)] : []),
    ...(isClass ? [] : suffixes.map((suffix) => `prediction${suffix}`)),
    ...(moe.hasSigma ? suffixes.map((suffix) => `sigma${suffix}`) : []),
    ...Array.from({length: moe.numExperts}, (_, index) => `expert_${index}`),
    ...(isRouted ? ['experts_run'] : []),
    ...(moe.hasGateDensity ? ['gate_log_density'] : []),
    ...(hasUsual ? ['unusual'] : []),
  ];
  const cells = (answer) => [
    ...(isClass ? [answer.label, digits(answer.confidence)] : []),
    ...Array.from(answer.prediction, digits),
    ...(moe.hasSigma ? Array.from(answer.sigma, digits) : []),
    ...Array.from(answer.routingWeights, digits),
    ...(isRouted ? [String(answer.expertsRun)] : []),
    ...(moe.hasGateDensity ? [digits(answer.gateLogDensity)] : []),
    ...(hasUsual ? [answer.gateLogDensity < usual ? 'yes' : 'no'] : []),
  ];
  return {header, cells};
}

/** Seven significant digits, without trailing zeros. */
function digits(value) {
  return String(Number(value.toPrecision(7)));
}
