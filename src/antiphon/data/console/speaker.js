/** The agent's voice in the visitor's loudspeaker, and an exact account of how much of it was played. */

export const RATE = 16_000;

export class Speaker {
  #context = null;
  #node = null;
  #opening = null;
  #onMark;
  #onLevel;
  /** Samples: played since the page was opened, waiting, and thrown away by `clear`. `loudest` is a level, 0..1. */
  counters = { played: 0, queued: 0, cleared: 0, loudest: 0 };

  /** `onMark(name)`: everything before the mark was heard, or thrown away. `onLevel(0..1)` every 40 ms. */
  constructor({ onMark, onLevel }) {
    this.#onMark = onMark;
    this.#onLevel = onLevel;
  }

  /** Whether this browser can play at all: not over plain http. */
  static get possible() {
    return "AudioWorkletNode" in window;
  }

  /** Call it from a press of the visitor's, as browsers ask for. */
  open() {
    this.#opening ??= this.#start();
    this.#context?.resume();
    return this.#opening;
  }

  get isOpen() {
    return this.#node !== null;
  }

  /** Browsers put sound to sleep, as during a telephone call: the visitor's next press wakes it. */
  wake() {
    if (this.isOpen && this.#context.state !== "running") this.#context.resume();
  }

  async #start() {
    const context = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
    this.#context = context;
    await context.audioWorklet.addModule(new URL("./playback.worklet.js", import.meta.url));
    const node = new AudioWorkletNode(context, "playback", { numberOfInputs: 0, outputChannelCount: [1] });
    node.port.addEventListener("message", ({ data }) => this.#told(data));
    node.port.start();
    node.connect(context.destination);
    this.#node = node;
  }

  /** PCM, 16 bits little-endian, mono, at `RATE`. The buffer is given away. */
  play(buffer) {
    const even = buffer.byteLength % 2 === 0 ? buffer : buffer.slice(0, -1);
    this.#node?.port.postMessage({ pcm: even }, [even]);
  }

  mark(name) {
    const seconds = this.#context?.outputLatency || this.#context?.baseLatency || 0;
    this.#node?.port.postMessage({ latency: Math.round(seconds * RATE) });
    this.#node?.port.postMessage({ mark: name });
  }

  /** Silence at once; what was not played never will be. */
  clear() {
    this.#node?.port.postMessage({ clear: true });
  }

  #told(data) {
    if (data.mark !== undefined) {
      this.#onMark(data.mark);
    } else if (data.cleared !== undefined) {
      this.counters.cleared += data.cleared;
    } else {
      this.counters.played = data.played;
      this.counters.queued = data.queued;
      this.counters.loudest = Math.max(this.counters.loudest, data.level);
      this.#onLevel(data.level);
    }
  }
}
