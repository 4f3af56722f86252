/**
 * How long an answer takes here. Browsers round their clocks (0.1 ms in Chromium, 1 ms in others), so many calls in a
 * row are timed, several times over, and the median is taken. The first calls of a page are slow, until its script has
 * been compiled.
 */
const ROUNDS = 5;
const WARM_UP_MS = 60;

/**
 * @param {() => Promise<unknown>} call
 * @param {{roundMs?: number}} [options]
 * @return {Promise<number>} Microseconds a call.
 */
export async function measure(call, {roundMs = 15} = {}) {
  for (const start = performance.now(); performance.now() - start < WARM_UP_MS; ) await call();
  const found = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const start = performance.now();
    let end = start;
    let count = 0;
    do {
      await call();
      count += 1;
      end = performance.now();
    } while (end - start < roundMs);
    found.push((1000 * (end - start)) / count);
    // Strokes and frames come first.
    await new Promise((resolve) => setTimeout(resolve));
  }
  return found.sort((one, other) => one - other)[Math.floor(ROUNDS / 2)];
}
