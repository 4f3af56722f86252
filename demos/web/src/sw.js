/**
 * Keeps the page working without a network. `build.py` fills in the version, a hash over all files, and their list;
 * a new version waits until the person reloads or all tabs are closed.
 */
const VERSION = '@VERSION@';
const FILES = @FILES@;
/** Too large to fetch in both variants: the page adds the one that its browser uses. */
const RUNTIME = 'wasm/';

self.addEventListener('install', (event) => {
  event.waitUntil(install());
});

self.addEventListener('activate', (event) => {
  event.waitUntil(activate());
});

self.addEventListener('message', (event) => {
  if (event.data === 'take-over') self.skipWaiting();
});

self.addEventListener('fetch', (event) => {
  const {method, url} = event.request;
  if (method === 'GET' && new URL(url).origin === self.location.origin) event.respondWith(answer(event.request));
});

async function install() {
  const cache = await caches.open(VERSION);
  await cache.addAll(FILES.map((file) => new Request(file, {cache: 'no-cache'})));
  // Whoever has used an older version keeps working offline after this one takes over.
  const keys = (await Promise.all((await caches.keys()).map(async (name) => (await caches.open(name)).keys()))).flat();
  const used = new Set(keys.filter(({url}) => url.includes(`/${RUNTIME}`)).map(({url}) => url));
  await Promise.all([...used].map(async (url) => {
    const response = await fetch(url, {cache: 'no-cache'});
    if (response.ok) await cache.put(url, response);
  }));
}

async function activate() {
  const outdated = (await caches.keys()).filter((name) => name.startsWith('moe-edge-') && name !== VERSION);
  await Promise.all(outdated.map((name) => caches.delete(name)));
  await self.clients.claim();
}

async function answer(request) {
  const cache = await caches.open(VERSION);
  const kept = await cache.match(request.mode === 'navigate' ? './' : request);
  if (kept) return kept;
  const response = await fetch(request);
  if (response.ok && response.status === 200) {
    // A full disk is no reason to withhold what came.
    await cache.put(request, response.clone()).catch(() => {});
  }
  return response;
}
