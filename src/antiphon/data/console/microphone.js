/** The visitor's microphone: echo cancelled, as frames of 20 ms at 16 kHz while they talk. */

/** After the visitor has let go, silence goes on for this long: the agent hears from it that they have finished. */
const TAIL_FRAMES = 75;

/** Why there is no microphone, in words for the visitor. */
export class NoMicrophone extends Error {}

export class Microphone {
  #context = null;
  #stream = null;
  #talking = false;
  #tail = 0;
  #onFrame;
  #onLevel;
  #onLost;

  /** `onFrame(ArrayBuffer)`, `onLevel(0..1)` every 20 ms, `onLost()` when the device is gone. */
  constructor({ onFrame, onLevel, onLost }) {
    this.#onFrame = onFrame;
    this.#onLevel = onLevel;
    this.#onLost = onLost;
  }

  get isOpen() {
    return this.#stream !== null;
  }

  /** Whether what it hears goes to the agent. */
  get talking() {
    return this.#talking;
  }

  set talking(talking) {
    if (this.#talking && !talking) this.#tail = TAIL_FRAMES;
    this.#talking = talking;
  }

  /** Asks the visitor. Throws `NoMicrophone`. */
  async open() {
    if (this.isOpen) return;
    if (!navigator.mediaDevices?.getUserMedia || !window.AudioWorkletNode) {
      throw new NoMicrophone(
        "This browser gives a microphone to pages over https only (or on the server's own machine). Type instead.",
      );
    }
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({
        audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 },
      });
    } catch (error) {
      throw new NoMicrophone(reasonOf(error));
    }
    const context = new AudioContext({ latencyHint: "interactive" });
    try {
      await context.audioWorklet.addModule(new URL("./capture.worklet.js", import.meta.url));
      await context.resume();
    } catch {
      stopped(stream);
      await context.close();
      throw new NoMicrophone("The microphone could not be read in this browser. Type instead.");
    }
    const node = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0, channelCount: 1 });
    node.port.addEventListener("message", ({ data }) => this.#heard(data));
    node.port.start();
    context.createMediaStreamSource(stream).connect(node);
    for (const track of stream.getAudioTracks()) {
      track.addEventListener("ended", () => {
        this.close();
        this.#onLost();
      });
    }
    this.#context = context;
    this.#stream = stream;
  }

  close() {
    this.talking = false;
    this.#tail = 0;
    if (this.#stream !== null) stopped(this.#stream);
    this.#stream = null;
    this.#context?.close();
    this.#context = null;
    this.#onLevel(0);
  }

  #heard({ buffer, level }) {
    if (!this.isOpen) return;
    if (this.#talking) {
      this.#onFrame(buffer);
    } else if (this.#tail > 0) {
      this.#tail -= 1;
      this.#onFrame(new ArrayBuffer(buffer.byteLength));
    }
    this.#onLevel(this.#talking ? level : 0);
  }
}

function stopped(stream) {
  for (const track of stream.getTracks()) track.stop();
}

function reasonOf(error) {
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return "The microphone was refused. Allow it in the browser's address bar and try again, or type instead.";
    case "NotFoundError":
    case "OverconstrainedError":
      return "No microphone was found. Connect one and try again, or type instead.";
    case "NotReadableError":
    case "AbortError":
      return "Another program is using the microphone. Close it and try again, or type instead.";
    default:
      return `The microphone could not be opened (${error.name}). Type instead.`;
  }
}
