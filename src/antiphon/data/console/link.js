/**
 * The socket to the agent: opens it, comes back to the same conversation when it breaks, says what is the matter.
 *
 * Events: "status" (detail: {kind, ...}), "message" (detail: a JSON message), "audio" (detail: an ArrayBuffer).
 *
 * Kinds of status: off; connecting; open; waiting {why, left} (tries again in `left` seconds); key {message} (an API
 * key is needed); taken (another window has the conversation); idle; ended {reason}; stopped {why}. After the last
 * five nothing happens until `open()` is called again.
 */

import { Refused } from "./access.js";
import { plainCode } from "./words.js";

const PROTOCOL = "antiphon.v1";
const QUERY = "events=all&marks=1&greet=1";
const STORED = "antiphon.session";
const FIRST_RETRY_S = 1;
const LONGEST_RETRY_S = 20;
const SETTLED_MS = 5_000;
/** More than this waiting to be sent: the network is too slow for the microphone, and old sound is of no use. */
const MOST_UNSENT_BYTES = 64_000;
const GONE = "The server cannot be reached.";
const FULL = "All lines are busy.";
const RESTARTS = "The server is starting again.";

export class Link extends EventTarget {
  #access;
  #socket = null;
  #timer = 0;
  #tries = 0;
  #wanted = false;
  #attempt = 0;
  /** With `audio` "none" the agent is only read: where a browser cannot play. */
  audio = "binary";

  constructor(access) {
    super();
    this.#access = access;
    window.addEventListener("online", () => this.#timer && this.retryNow());
  }

  /** The conversation's id, kept as long as this tab lives. */
  get sessionId() {
    return sessionStorage.getItem(STORED) ?? "";
  }

  /** The next `open()` begins a new conversation. */
  forget() {
    sessionStorage.removeItem(STORED);
  }

  get isOpen() {
    return this.#socket !== null && this.#socket.readyState === WebSocket.OPEN;
  }

  /** Connects, or takes the conversation back. */
  open() {
    this.#wanted = true;
    this.#tries = 0;
    this.#connect();
  }

  retryNow() {
    this.#connect();
  }

  /** The visitor hangs up. */
  end() {
    this.#wanted = false;
    if (this.isOpen) this.send({ type: "end" });
    else this.#settle({ kind: "ended", reason: "" });
  }

  /** Whether it was sent. */
  send(message) {
    if (this.isOpen) this.#socket.send(JSON.stringify(message));
    return this.isOpen;
  }

  sendAudio(buffer) {
    if (this.isOpen && this.#socket.bufferedAmount < MOST_UNSENT_BYTES) this.#socket.send(buffer);
  }

  async #connect() {
    this.#stopWaiting();
    this.#drop();
    const attempt = ++this.#attempt;
    this.#tell({ kind: "connecting" });
    let grant;
    try {
      grant = await this.#access.grant(this.sessionId);
    } catch (error) {
      if (attempt === this.#attempt) this.#failed(error);
      return;
    }
    if (attempt !== this.#attempt) return; // meanwhile another attempt has begun
    sessionStorage.setItem(STORED, grant.session_id);
    const url = new URL("orchestrate", document.baseURI);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    url.search = `session_id=${encodeURIComponent(grant.session_id)}&audio=${this.audio}&${QUERY}`;
    const socket = new WebSocket(url, grant.token ? [PROTOCOL, `bearer.${grant.token}`] : [PROTOCOL]);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    let openedAt = 0;
    let ended = null;
    socket.addEventListener("open", () => {
      openedAt = performance.now();
    });
    socket.addEventListener("message", ({ data }) => {
      if (data instanceof ArrayBuffer) {
        this.dispatchEvent(new CustomEvent("audio", { detail: data }));
        return;
      }
      const message = read(data);
      if (message.type === "connected") this.#tell({ kind: "open", resumed: message.resumed === true });
      if (message.type === "ended") ended = message.reason ?? "";
      this.dispatchEvent(new CustomEvent("message", { detail: message }));
    });
    socket.addEventListener("close", (event) => {
      if (this.#socket !== socket) return; // an old one
      this.#socket = null;
      if (openedAt && performance.now() - openedAt > SETTLED_MS) this.#tries = 0;
      this.#closed(event, openedAt > 0, ended);
    });
  }

  #closed({ code, reason }, wasOpen, ended) {
    if (code === 1000 || ended !== null) this.#settle({ kind: "ended", reason: ended ?? reason });
    else if (code === 4001) this.#stop({ kind: "taken" });
    else if (code === 1008 && reason === "line.idle") this.#stop({ kind: "idle" });
    else if (code === 1013) this.#wait(FULL);
    else if (code === 1001 || code === 1012) this.#wait(RESTARTS);
    else if (code === 1006 || code === 1005) wasOpen ? this.#wait(GONE) : this.#findOut();
    else if (code === 1011) this.#wait("Something went wrong on the server.");
    else this.#stop({ kind: "stopped", why: `The server closed the line: ${plainCode(reason || String(code))}` });
  }

  /** A browser does not tell why a socket did not open; the server does, asked another way. */
  async #findOut() {
    const attempt = this.#attempt;
    let why = "The server refuses this connection.";
    try {
      await this.#access.ready();
    } catch (error) {
      if (attempt === this.#attempt) this.#failed(error);
      return;
    }
    if (attempt === this.#attempt) this.#wait(why);
  }

  #failed(error) {
    if (!(error instanceof Refused)) this.#wait(GONE);
    else if (error.wantsKey) this.#stop({ kind: "key", message: error.message });
    else if (error.status === 503) this.#wait(error.code === "admission.full" ? FULL : RESTARTS, error.retryAfterS);
    else if (error.status === 429 || error.status >= 500) this.#wait(error.message, error.retryAfterS);
    else this.#stop({ kind: "stopped", why: plainCode(error.code, error.message) });
  }

  /** Tries again after a while that grows, never sooner than the server asked for. */
  #wait(why, atLeastS = 0) {
    if (!this.#wanted) {
      this.#settle({ kind: "ended", reason: "" });
      return;
    }
    const usual = Math.min(LONGEST_RETRY_S, FIRST_RETRY_S * 2 ** this.#tries);
    this.#tries += 1;
    const seconds = Math.max(usual * (0.8 + 0.4 * Math.random()), atLeastS ?? 0);
    const until = performance.now() + seconds * 1000;
    const tick = () => {
      const left = (until - performance.now()) / 1000;
      if (left <= 0) this.#connect();
      else this.#tell({ kind: "waiting", why, left: Math.ceil(left) });
    };
    this.#stopWaiting();
    this.#timer = setInterval(tick, 250);
    tick();
  }

  #stopWaiting() {
    clearInterval(this.#timer);
    this.#timer = 0;
  }

  #settle(status) {
    this.forget();
    this.#stop(status);
  }

  #stop(status) {
    this.#wanted = false;
    this.#stopWaiting();
    this.#tell(status);
  }

  #drop() {
    const old = this.#socket;
    this.#socket = null;
    old?.close();
  }

  #tell(status) {
    this.dispatchEvent(new CustomEvent("status", { detail: status }));
  }
}

function read(data) {
  try {
    const message = JSON.parse(data);
    return message !== null && typeof message === "object" ? message : {};
  } catch {
    return {}; // not ours; nothing on this page depends on it
  }
}
