/** The microphone, on the audio thread: the first channel as 16 bit frames of 20 ms at 16 kHz, each with its level. */

import { Resampler } from "./resample.js";

const RATE = 16_000;
const FRAME = RATE / 50;

class Capture extends AudioWorkletProcessor {
  #resampler = new Resampler(sampleRate, RATE);
  #frame = new Int16Array(FRAME);
  #filled = 0;
  #power = 0;

  process([input]) {
    if (input.length > 0) this.#resampler.push(input[0], (sample) => this.#take(sample));
    return true;
  }

  #take(sample) {
    this.#frame[this.#filled] = Math.max(-1, Math.min(1, sample)) * 32_767;
    this.#power += sample * sample;
    this.#filled += 1;
    if (this.#filled < FRAME) return;
    const { buffer } = this.#frame;
    this.port.postMessage({ buffer, level: Math.sqrt(this.#power / FRAME) }, [buffer]);
    this.#frame = new Int16Array(FRAME);
    this.#filled = 0;
    this.#power = 0;
  }
}

registerProcessor("capture", Capture);
