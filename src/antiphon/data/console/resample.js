/**
 * Microphone sound at any rate to another, sample by sample as it comes: a windowed sinc, read at 32 phases.
 *
 * Browsers differ in whether a microphone may be read at a rate that is not the device's, so it is read at the
 * device's rate and brought to ours here.
 */

const PHASES = 32;
/** Zero crossings of the sinc on each side: 16 keep what would alias over 60 dB down. */
const CROSSINGS = 16;
/** Below the half rate by this much, so that the filter has room to fall. */
const ROLLOFF = 0.9;

export class Resampler {
  #step;
  #half;
  #kernels;
  #history;
  #position = 0;

  /** Rates in Hz. */
  constructor(from, to) {
    this.#step = from / to;
    const cutoff = Math.min(1, to / from) * ROLLOFF;
    this.#half = Math.ceil(CROSSINGS / cutoff);
    this.#kernels = Array.from({ length: PHASES }, (_, phase) => kernel(this.#half, cutoff, phase / PHASES));
    this.#history = new Float32Array(2 * this.#half);
  }

  /** Gives every sample that `input` completes to `take`. */
  push(input, take) {
    const width = 2 * this.#half;
    const all = new Float32Array(this.#history.length + input.length);
    all.set(this.#history);
    all.set(input, this.#history.length);
    while (Math.floor(this.#position) + width < all.length) {
      const first = Math.floor(this.#position);
      const taps = this.#kernels[Math.floor((this.#position - first) * PHASES)];
      let sum = 0;
      for (let tap = 0; tap < width; tap += 1) sum += taps[tap] * all[first + tap];
      take(sum);
      this.#position += this.#step;
    }
    const spent = Math.min(Math.floor(this.#position), all.length);
    this.#history = all.slice(spent);
    this.#position -= spent;
  }
}

function kernel(half, cutoff, shift) {
  const taps = new Float32Array(2 * half);
  let sum = 0;
  for (let tap = 0; tap < taps.length; tap += 1) {
    const at = tap - half + 1 - shift;
    const x = Math.PI * at * cutoff;
    const window = Math.cos((Math.PI * at) / (2 * half)) ** 2;
    taps[tap] = (x === 0 ? 1 : Math.sin(x) / x) * window;
    sum += taps[tap];
  }
  return taps.map((tap) => tap / sum);
}
