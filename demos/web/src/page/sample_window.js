/** Samples at uneven times -> evenly spaced ones -> the last window. */

/** Linear interpolation to a fixed rate; phones report at 60 or 100 Hz, unevenly. */
export class Resampler {
  #stepMs;
  #last = null;
  #next = 0;

  /** @param {number} rateHz */
  constructor(rateHz) {
    this.#stepMs = 1000 / rateHz;
  }

  /**
   * @param {number} timeMs When `values` were measured; times that don't grow are left out.
   * @param {number[]} values
   * @return {number[][]} The samples that are now due, oldest first.
   */
  push(timeMs, values) {
    const last = this.#last;
    if (last && timeMs <= last.timeMs) return [];
    this.#last = {timeMs, values};
    // After a gap of more than a quarter of a second a line between would be invented motion.
    if (!last || timeMs - last.timeMs > 250) {
      this.#next = timeMs + this.#stepMs;
      return [values];
    }
    const due = [];
    for (; this.#next <= timeMs; this.#next += this.#stepMs) {
      const share = (this.#next - last.timeMs) / (timeMs - last.timeMs);
      due.push(values.map((value, index) => last.values[index] + share * (value - last.values[index])));
    }
    return due;
  }
}

/** Keeps the last `length` samples, and says every `hop` samples that a window is due. */
export class SampleWindow {
  #samples = [];
  #sinceLast = 0;

  constructor(length, hop) {
    this.length = length;
    this.hop = hop;
  }

  /** @return {Float32Array|null} A window, row by row, when one is due. */
  push(sample) {
    this.#samples.push(sample);
    if (this.#samples.length > this.length) this.#samples.shift();
    this.#sinceLast += 1;
    if (this.#samples.length < this.length || this.#sinceLast < this.hop) return null;
    this.#sinceLast = 0;
    return Float32Array.from(this.#samples.flat());
  }

  clear() {
    this.#samples = [];
    this.#sinceLast = 0;
  }
}
