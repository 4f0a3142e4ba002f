/** The first view: a conversation held from this page, by voice or by typing. */

import { Unreachable } from "./access.js";
import { Conversation } from "./conversation.js";
import { byId, el, say, show } from "./dom.js";
import { Floor } from "./floor.js";
import { Link } from "./link.js";
import { Microphone, NoMicrophone } from "./microphone.js";
import { linesOf } from "./past.js";
import { Speaker } from "./speaker.js";
import { Transcript } from "./transcript.js";
import { waterfall } from "./waterfall.js";
import { plainCode, plainEnd } from "./words.js";

const PILL = {
  off: "Not connected",
  connecting: "Connecting",
  open: "Connected",
  waiting: "Waiting",
  key: "API key needed",
  taken: "Taken over",
  idle: "Closed",
  ended: "Ended",
  stopped: "Closed",
};

/** A line in these states opens by itself: a microphone that was switched on stays so. */
const COMES_BACK = new Set(["connecting", "waiting"]);
const LOST = "The microphone was disconnected. Connect one and try again, or type instead.";

export class Talk {
  #access;
  #askForKey;
  #link;
  #floor = new Floor();
  #conversation = new Conversation();
  #transcript = new Transcript(byId("transcript"), "You", (turn) => this.#sourcesOf(turn));
  #speaker;
  #microphone;
  #held = false;
  /** Typed before the line was open; sent when it is. */
  #unsent = [];

  /** `askForKey(why)` resolves to whether a key was given. */
  constructor(access, askForKey) {
    this.#access = access;
    this.#askForKey = askForKey;
    this.#link = new Link(access);
    this.#speaker = new Speaker({
      onMark: (name) => this.#link.send({ type: "mark", name }),
      onLevel: (level) => this.#floor.level("agent", level),
    });
    this.#microphone = new Microphone({
      onFrame: (frame) => this.#link.sendAudio(frame),
      onLevel: (level) => this.#floor.level("you", level),
      onLost: () => this.#lostMicrophone(LOST),
    });
    this.#link.addEventListener("status", ({ detail }) => this.#status(detail));
    this.#link.addEventListener("message", ({ detail }) => this.#message(detail));
    this.#link.addEventListener("audio", ({ detail }) => this.#speaker.play(detail));
    this.#listen();
    this.#status({ kind: "off" });
    if (this.#link.sessionId) byId("start-voice").textContent = "Go on with the microphone";
    if (this.#link.sessionId) byId("start-text").textContent = "Go on and type";
  }

  /** What was played so far, in samples (see `Speaker.counters`). */
  get played() {
    return this.#speaker.counters;
  }

  recolour() {
    this.#floor.recolour();
  }

  // -- what the visitor does ----------------------------------------------------------------------

  #listen() {
    byId("start-voice").addEventListener("click", () => this.#start(true));
    byId("start-text").addEventListener("click", () => this.#start(false));
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#type();
    });
    byId("hang-up").addEventListener("click", () => this.#link.end());
    byId("open-mic").addEventListener("change", () => this.#openMicrophone());
    const button = byId("talk");
    button.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      button.setPointerCapture(event.pointerId);
      this.#hold(true);
    });
    for (const over of ["pointerup", "pointercancel", "lostpointercapture"]) {
      button.addEventListener(over, () => this.#hold(false));
    }
    button.addEventListener("contextmenu", (event) => event.preventDefault()); // a long press on a telephone
    // A press that is neither a pointer's nor the space bar's cannot be held: it switches.
    button.addEventListener("click", (event) => event.detail === 0 && this.#hold(!this.#held));
    document.addEventListener("keydown", (event) => {
      if (event.code !== "Space" || !this.#isForTalking(event)) return;
      event.preventDefault();
      if (!event.repeat) this.#hold(true);
    });
    document.addEventListener("keyup", (event) => {
      if (event.code !== "Space" || !this.#held) return;
      event.preventDefault();
      this.#hold(false);
    });
    document.addEventListener("pointerdown", () => this.#speaker.wake());
    window.addEventListener("blur", () => this.#hold(false));
  }

  /** The space bar types a space in a field and presses a button that has the focus; everywhere else it talks. */
  #isForTalking({ target, ctrlKey, altKey, metaKey }) {
    if (byId("talk-view").hidden || ctrlKey || altKey || metaKey) return false;
    return target === byId("talk") || !target.closest("input, textarea, select, button, a, summary, dialog");
  }

  async #start(byVoice) {
    this.#hint("");
    show(byId("welcome"), false);
    byId(byVoice ? "talk" : "text").focus();
    if (Speaker.possible) {
      try {
        await this.#speaker.open();
      } catch {
        this.#hint("This browser cannot play the agent's voice. You can read what it says.");
      }
    } else {
      this.#hint("Browsers play and record over https only, or on the server's own machine. You can type and read.");
    }
    this.#link.audio = this.#speaker.isOpen ? "binary" : "none";
    this.#link.open();
    if (byVoice) await this.#hasMicrophone();
  }

  async #hasMicrophone() {
    try {
      await this.#microphone.open();
      this.#hint("");
    } catch (error) {
      if (!(error instanceof NoMicrophone)) throw error;
      this.#lostMicrophone(error.message);
    }
    return this.#microphone.isOpen;
  }

  #lostMicrophone(why) {
    byId("open-mic").checked = false;
    this.#held = false;
    this.#talk(false);
    this.#hint(why);
    byId("text").focus();
  }

  /** The visitor presses to talk, or lets go. */
  async #hold(held) {
    if (held === this.#held || byId("open-mic").checked || (held && !this.#link.isOpen)) return;
    this.#held = held;
    if (!held) this.#talk(false);
    else if ((await this.#hasMicrophone()) && this.#held) this.#talk(true);
  }

  async #openMicrophone() {
    const open = byId("open-mic").checked;
    this.#held = false;
    if (!open) this.#talk(false);
    else if ((await this.#hasMicrophone()) && byId("open-mic").checked) this.#talk(true);
  }

  #talk(talking) {
    this.#microphone.talking = talking;
    const always = byId("open-mic").checked;
    byId("talk").setAttribute("aria-pressed", String(talking));
    say(byId("talk-label"), always ? "Microphone open" : talking ? "Listening to you" : "Hold to talk");
  }

  #type() {
    const text = byId("text").value.trim();
    if (!text) return;
    byId("text").value = "";
    if (byId("connection").dataset.kind === "ended") this.#clear();
    this.#transcript.update(this.#conversation.typed(text));
    if (this.#link.send({ type: "text", text })) return;
    this.#unsent = [text]; // of what is typed while the line is away, the last counts
    if (!COMES_BACK.has(byId("connection").dataset.kind)) this.#start(false);
  }

  // -- what the server says -----------------------------------------------------------------------

  #message(message) {
    switch (message.type) {
      case "connected":
        this.#connected(message);
        break;
      case "state":
        this.#floor.state = message.state;
        break;
      case "clear":
        this.#speaker.clear();
        break;
      case "mark":
        this.#mark(message.name);
        break;
      case "error":
        this.#hint(plainCode(message.code, message.message));
        break;
      case "latency":
        byId("last-latency").replaceChildren(waterfall(message, "Latency of the last turn"));
        break;
    }
    const line = this.#conversation.apply(message);
    if (line !== null) this.#transcript.update(line);
  }

  #mark(name) {
    if (this.#speaker.isOpen) this.#speaker.mark(name);
    else this.#link.send({ type: "mark", name });
  }

  async #connected({ session_id: id, state, resumed, unheard }) {
    this.#floor.state = state;
    const link = byId("session-link");
    link.href = `#sessions/${encodeURIComponent(id)}`;
    say(link, id);
    show(byId("facts"), true);
    for (const text of this.#unsent.splice(0)) this.#link.send({ type: "text", text });
    const begun = this.#conversation.lines.some(({ kind }) => kind === "agent");
    if (resumed) {
      this.#note(unheard?.text ? `Connected again. Not heard before: “${unheard.text}”` : "Connected again.");
      if (!begun) await this.#recall(id);
    } else if (begun) {
      this.#note("The server does not know what was said before: a new conversation begins.");
      this.#conversation = new Conversation(`${id} ${performance.now()} `); // its turns are counted from one again
    }
  }

  /** The page was loaded again: what was said before comes from the journal. */
  async #recall(id) {
    let view;
    try {
      view = await this.#access.session(id);
    } catch (error) {
      if (error instanceof Unreachable) return; // the socket notices, too
      this.#note("What was said before could not be read.");
      return;
    }
    this.#transcript.precede(linesOf(view));
  }

  async #sourcesOf(turn) {
    try {
      return (await this.#access.turn(byId("session-link").textContent, turn))?.sources ?? [];
    } catch {
      return []; // their names stay, and the line tells what is the matter with the server
    }
  }

  #note(text) {
    this.#transcript.update(this.#conversation.note(text));
  }

  // -- what the line does -------------------------------------------------------------------------

  #status(status) {
    const { kind } = status;
    const pill = byId("connection");
    pill.dataset.kind = kind;
    say(pill, PILL[kind]);
    byId("talk").setAttribute("aria-disabled", String(kind !== "open")); // it keeps the focus while the line is away
    byId("open-mic").disabled = kind !== "open";
    byId("hang-up").disabled = kind !== "open" && kind !== "waiting";
    if (kind !== "open") {
      this.#floor.state = "IDLE";
      this.#speaker.clear();
      if (COMES_BACK.has(kind)) this.#hold(false);
      else this.#silence();
    }
    const [why, action, act] = this.#noticeFor(status);
    say(byId("line-why"), why);
    say(byId("line-count"), kind === "waiting" ? `Trying again in ${status.left} s.` : "");
    show(byId("line-notice"), why !== "");
    const button = byId("line-action");
    say(button, action);
    button.onclick = act;
    if (kind === "key") this.#giveKey(status.message);
  }

  #noticeFor(status) {
    const again = () => this.#link.open();
    switch (status.kind) {
      case "waiting":
        return [status.why, "Try now", () => this.#link.retryNow()];
      case "key":
        return ["This server asks for an API key.", "Give a key", () => this.#giveKey("")];
      case "taken":
        return ["Another window has taken this conversation over.", "Take it back", again];
      case "idle":
        return ["Nothing was said for a while, so the line was closed.", "Go on", again];
      case "ended":
        return [plainEnd(status.reason), "New conversation", () => this.#renew()];
      case "stopped":
        return [status.why, "Try again", again];
      default:
        return ["", "", null];
    }
  }

  async #giveKey(why) {
    if (await this.#askForKey(why)) this.#link.open();
  }

  /** Nobody listens any more: the microphone is given back. */
  #silence() {
    byId("open-mic").checked = false;
    this.#held = false;
    this.#microphone.close();
    this.#talk(false);
  }

  #renew() {
    this.#clear();
    this.#start(false);
  }

  #clear() {
    this.#conversation = new Conversation();
    this.#transcript.clear();
    byId("last-latency").replaceChildren(el("p.dim", {}, "From the end of your words to the agent's first sound."));
  }

  #hint(text) {
    say(byId("hint"), text);
    show(byId("hint"), text !== "");
  }
}
