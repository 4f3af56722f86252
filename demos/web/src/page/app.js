/** The page: opens panels, shows states and problems. */
import {MoeError, startRuntime} from '../moe.js';
import {startDrawPanel} from './draw_panel.js';
import {startMotionPanel} from './motion_panel.js';
import {keepOffline} from './offline.js';
import {startTablePanel} from './table_panel.js';
import {startTabs} from './tabs.js';

const page = document.documentElement;
const find = (id) => document.getElementById(id);
const panels = {
  draw: start('draw', startDrawPanel),
  motion: start('motion', startMotionPanel),
  table: start('table', startTablePanel),
};

/** Each panel starts when it is first opened; after a failure the next opening tries again. */
function start(name, startPanel) {
  let started;
  return () => {
    started ??= startPanel(find(`panel-${name}`), {onProgress: showProgress})
      .then(() => {
        page.dataset[name] = 'ready';
      })
      .catch((error) => {
        started = undefined;
        showProblem(error);
      });
    return started;
  };
}

async function begin() {
  const begun = performance.now();
  startTabs({
    onOpen: (name) => {
      find('problem').hidden = true;
      panels[name]();
    },
  });
  await panels.draw();
  if (page.dataset.draw !== 'ready') return;
  const runtime = await startRuntime();
  page.dataset.firstAnswerMs = Math.round(performance.now() - begun);
  page.dataset.variant = runtime.variant;
  page.dataset.ready = 'true';
  find('state').textContent = 'Ready';
  const kind = runtime.variant === 'relaxed' ? 'relaxed SIMD' : 'SIMD';
  find('footer-facts').textContent = `Ready after ${page.dataset.firstAnswerMs} ms (${kind}).`;
  await keepOffline({
    onReady: () => {
      page.dataset.offline = 'ready';
      find('state').textContent = 'Ready, also offline';
    },
    onUpdate: (takeOver) => {
      find('update').hidden = false;
      find('update-now').addEventListener('click', takeOver, {once: true});
    },
  }).catch((error) => console.warn('not kept for offline use:', error));
}

function showProgress(share) {
  if (page.dataset.ready !== 'true') find('state').textContent = `Loading the runtime, ${Math.round(100 * share)} %`;
}

function showProblem(error) {
  if (!(error instanceof MoeError)) console.error(error);
  find('problem').textContent = error.message;
  find('problem').hidden = false;
  if (page.dataset.ready !== 'true') find('state').textContent = 'Not ready';
}

begin();
