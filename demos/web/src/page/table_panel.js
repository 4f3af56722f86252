/** A model and a table of one's own: answers, routing, a self-test, a .csv to take away. */
import {MoeError, answerColumns, loadMoe, readTable, writeAnswers} from '../moe.js';
import {percent} from './probability_bars.js';
import {fetchBytes, offerDownload} from './site_files.js';

const SHOWN_ROWS = 100;
const COLOURS = 8;

/** Makes the panel live. */
export async function startTablePanel(root) {
  const find = (id) => root.querySelector(`#${id}`);
  const mode = find('table-mode');
  let moe = null;
  let table = null;
  let answers = null;
  let job = Promise.resolve();

  /** One thing after another; what fails is told, and what was there before stays. */
  function run(work) {
    job = job.then(async () => {
      root.dataset.state = 'busy';
      find('table-problem').hidden = true;
      try {
        await work();
      } catch (error) {
        if (!(error instanceof MoeError)) console.error(error);
        find('table-problem').textContent = error.message;
        find('table-problem').hidden = false;
      }
      root.dataset.state = 'idle';
    });
    return job;
  }

  async function takeModel(bytes, name) {
    const opened = await loadMoe(bytes, {source: name});
    await moe?.dispose();
    moe = opened;
    mode.querySelector('[value=routed]').disabled = moe.routingObstacle !== null;
    if (moe.routingObstacle !== null) mode.value = 'dense';
    showModel(find, moe);
    await showSelfTest(find('self-test'), moe);
    if (table) await answerTable();
  }

  async function answerTable() {
    answers = null;
    find('answers-card').hidden = true;
    if (!moe) {
      find('table-problem').textContent = `${table.name} is here; now the model that should answer it`;
      find('table-problem').hidden = false;
      return;
    }
    const {rows, targets} = readTable(table.bytes, moe.schema, table.name);
    const isRouted = mode.value === 'routed';
    const found = [];
    const begun = performance.now();
    for (const row of rows) found.push(await (isRouted ? moe.route(row) : moe.predict(row)));
    const us = (1000 * (performance.now() - begun)) / rows.length;
    answers = found;
    showAnswers(find, moe, {answers, targets, us, isRouted, name: table.name});
  }

  async function takeFiles(files) {
    for (const file of [...files].sort((one) => (one.name.endsWith('.tflite') ? -1 : 1))) {
      if (/\.tflite$/i.test(file.name)) {
        await takeModel(await readFile(file), file.name);
      } else if (/\.csv$/i.test(file.name)) {
        table = {bytes: await readFile(file), name: file.name};
        await answerTable();
      } else {
        throw new MoeError(`expected a .tflite or a .csv, got ${file.name}`);
      }
    }
  }

  for (const id of ['model-file', 'table-file']) {
    find(id).addEventListener('change', ({target}) => {
      const files = [...target.files];
      target.value = ''; // the same file may be picked again
      run(() => takeFiles(files));
    });
  }
  find('example').addEventListener('click', () =>
    run(async () => {
      table = {bytes: await fetchBytes('models/digits-rows.csv'), name: 'digits-rows.csv'};
      await takeModel(await fetchBytes('models/digits.tflite'), 'digits.tflite');
    }),
  );
  mode.addEventListener('change', () => run(answerTable));
  find('download').addEventListener('click', () => {
    if (!answers) return;
    const name = table.name.replace(/\.csv$/i, '');
    offerDownload(writeAnswers(moe, answers, {isRouted: mode.value === 'routed'}), `${name}-answers.csv`);
  });
  // Anywhere in the panel, so that nobody loses the page by missing a box.
  for (const name of ['dragover', 'dragleave', 'drop']) {
    addEventListener(name, (event) => {
      event.preventDefault();
      if (root.hidden) return;
      find('drop').classList.toggle('over', name === 'dragover');
      if (name === 'drop') run(() => takeFiles([...event.dataTransfer.files]));
    });
  }
  root.dataset.state = 'idle';
}

async function readFile(file) {
  try {
    return new Uint8Array(await file.arrayBuffer());
  } catch (error) {
    throw new MoeError(`can't read ${file.name}: ${error.message}`, {cause: error});
  }
}

function showModel(find, moe) {
  const {manifest, schema} = moe;
  const schemes = [...new Set(moe.experts.map(({scheme}) => scheme))].join(', ');
  const facts = {
    Task: `${moe.task}, ${moe.labels.length} ${moe.task === 'classification' ? 'classes' : 'outputs'}`,
    Takes: manifest.input_shape.length > 1 ? `windows ${manifest.input_shape.join(' × ')}` : `${schema.names.length} columns`,
    Experts: `${moe.numExperts}, ${schemes}`,
    Size: `${moe.numBytes.toLocaleString('en')} bytes`,
    Routing: moe.routingObstacle ?? describeRouting(moe.defaultRouting),
  };
  if (moe.digestNote) facts.Note = moe.digestNote;
  find('model-name').textContent = moe.source;
  find('model-facts').replaceChildren(
    ...Object.entries(facts).flatMap(([term, text]) => [
      Object.assign(document.createElement('dt'), {textContent: term}),
      Object.assign(document.createElement('dd'), {textContent: text}),
    ]),
  );
  find('model-card').hidden = false;
}

function describeRouting({topK, mass}) {
  return topK ? `the ${topK} heaviest experts` : `experts that hold ${(100 * mass).toFixed(1)} % of the gate's weight`;
}

async function showSelfTest(place, moe) {
  place.className = 'selftest';
  try {
    const result = await moe.selfTest();
    const worst = Math.max(...result.modes.flatMap((check) => [check.maxDifference, check.maxRoutingDifference ?? 0]));
    place.classList.add(result.passed ? 'passed' : 'failed');
    place.textContent =
      `Self-test ${result.passed ? 'passed' : 'FAILED'}: ${result.numRows} stored rows, ` +
      `${result.modes.map(({mode}) => mode).join(' and ')}, largest difference ${worst.toExponential(1)} ` +
      `(at most ${result.tolerance.toExponential(1)})`;
  } catch (error) {
    place.classList.add('failed');
    place.textContent = `Self-test not possible: ${error.message}`;
  }
}

function showAnswers(find, moe, {answers, targets, us, isRouted, name}) {
  const {header, cells} = answerColumns(moe, {isRouted});
  const right = targets && moe.task === 'classification'
    ? answers.filter(({label}, index) => label === targets[index]).length : null;
  find('answers-title').textContent =
    `${answers.length.toLocaleString('en')} rows of ${name}, ${us.toFixed(0)} µs each` +
    (right === null ? '' : `, ${percent(right / answers.length)} as in column ${moe.schema.target}`);
  const usage = Array.from({length: moe.numExperts}, (_, expert) =>
    answers.reduce((sum, {routingWeights}) => sum + routingWeights[expert], 0) / answers.length);
  find('usage').replaceChildren(
    ...usage.map((share, expert) => {
      const part = Object.assign(document.createElement('span'), {
        textContent: share >= 0.06 ? `${expert}: ${percent(share)}` : '',
        title: `expert ${expert}: ${percent(share)}`,
      });
      part.style.flexGrow = share;
      part.style.background = `var(--expert-${expert % COLOURS})`;
      return part;
    }),
  );
  const body = document.createElement('tbody');
  for (const answer of answers.slice(0, SHOWN_ROWS)) {
    body.insertRow().append(...cells(answer).map((text, index) => cell('td', shorten(text, header[index]))));
  }
  const head = document.createElement('thead');
  head.insertRow().append(...header.map((text) => Object.assign(cell('th', text), {scope: 'col'})));
  find('answers').replaceChildren(head, body);
  if (answers.length > SHOWN_ROWS) {
    body.insertRow().append(
      Object.assign(cell('td', `the first ${SHOWN_ROWS}; the download has all`), {colSpan: header.length}),
    );
  }
  find('answers-card').hidden = false;
}

/** Screens show three digits; the download has seven. */
function shorten(text, name) {
  return name === 'label' || !Number.isFinite(Number(text)) ? text : String(Number(Number(text).toPrecision(3)));
}

function cell(tag, text) {
  return Object.assign(document.createElement(tag), {textContent: text});
}
