/**
 * The agent's voice, on the audio thread. It runs at the rate of the line, so a sample played is a sample counted.
 *
 * In: {pcm: Int16 buffer}, {mark: name}, {clear: true}, {latency: samples between here and the ear}.
 * Out: {mark: name} when all sound before it has left the loudspeaker, or was thrown away; {cleared: samples thrown
 * away}; {level, played, queued} every 40 ms.
 */

const REPORT_EVERY = 0.04;
/** What is cut off is faded over this many samples: a hard edge clicks. */
const FADE = 64;

class Playback extends AudioWorkletProcessor {
  #queue = [];
  #offset = 0;
  #queued = 0;
  #written = 0;
  #played = 0;
  #marks = [];
  #latency = 0;
  #power = 0;
  #counted = 0;

  constructor() {
    super();
    this.port.addEventListener("message", ({ data }) => this.#told(data));
    this.port.start();
  }

  #told(data) {
    if (data.pcm) {
      const samples = new Int16Array(data.pcm);
      this.#queue.push(samples);
      this.#queued += samples.length;
      this.#written += samples.length;
    } else if (data.mark !== undefined) {
      this.#marks.push({ name: data.mark, at: this.#written, due: null });
    } else if (data.clear) {
      this.#clear();
    } else if (data.latency !== undefined) {
      this.#latency = data.latency;
    }
  }

  /** Keeps a breath of sound to fade out, and forgets the rest. Its marks, not reached, are given back at once. */
  #clear() {
    const rest = new Int16Array(Math.min(FADE, this.#queued));
    for (let at = 0; at < rest.length; at += 1) rest[at] = this.#next() * (1 - at / rest.length);
    const dropped = this.#queued;
    this.#queue = rest.length > 0 ? [rest] : [];
    this.#offset = 0;
    this.#queued = rest.length;
    this.#played -= rest.length; // they are about to be played
    this.#written = this.#played + rest.length;
    for (const mark of this.#marks) if (mark.due === null) this.port.postMessage({ mark: mark.name });
    this.#marks = this.#marks.filter((mark) => mark.due !== null);
    this.port.postMessage({ cleared: dropped });
  }

  /** The caller knows that there is one. */
  #next() {
    const sample = this.#queue[0][this.#offset];
    this.#offset += 1;
    this.#queued -= 1;
    this.#played += 1;
    if (this.#offset === this.#queue[0].length) {
      this.#queue.shift();
      this.#offset = 0;
    }
    return sample;
  }

  process(_, [[output]]) {
    for (let at = 0; at < output.length && this.#queued > 0; at += 1) {
      output[at] = this.#next() / 32_768;
      this.#power += output[at] ** 2;
    }
    for (const mark of this.#marks) {
      if (mark.due === null && mark.at <= this.#played) mark.due = currentFrame + this.#latency;
    }
    while (this.#marks.length > 0 && this.#marks[0].due !== null && this.#marks[0].due <= currentFrame) {
      this.port.postMessage({ mark: this.#marks.shift().name });
    }
    this.#counted += output.length;
    if (this.#counted >= sampleRate * REPORT_EVERY) {
      const level = Math.sqrt(this.#power / this.#counted);
      this.port.postMessage({ level, played: this.#played, queued: this.#queued });
      this.#counted = 0;
      this.#power = 0;
    }
    return true;
  }
}

registerProcessor("playback", Playback);
