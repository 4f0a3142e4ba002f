/**
 * One conversation as lines to show, folded from the server's messages. Pure: it draws nothing and knows no clock.
 *
 * Lines, in the order in which they began:
 * - {kind: "caller", key, text, final, language, typed}
 * - {kind: "agent", key, turn, text, heard, over, speech, intent, sources, language, latency, decisions}
 *   (`heard`: how many characters of `text` were heard; `over`: no more of it will be heard)
 * - {kind: "note", key, text}
 */

export class Conversation {
  lines = [];
  #byKey = new Map();
  #added = 0;
  #prefix;

  /** `prefix`: before every key, where lines of another conversation are shown beside. */
  constructor(prefix = "") {
    this.#prefix = prefix;
  }

  /** The line that a message changed, null if none. */
  apply(message) {
    switch (message.type) {
      case "transcript":
        return this.#transcript(message);
      case "response":
        return this.#response(message);
      case "spoken":
        return this.#spoken(message);
      case "interruption":
        return this.#interruption(message);
      case "latency":
        return this.#latency(message);
      default:
        return null;
    }
  }

  /** What the visitor wrote. */
  typed(text) {
    this.#added += 1;
    return this.#line(`typed${this.#added}`, () => ({ kind: "caller", text, final: true, language: "", typed: true }));
  }

  /** Something about the line itself. */
  note(text) {
    this.#added += 1;
    return this.#line(`note${this.#added}`, () => ({ kind: "note", text }));
  }

  #line(name, make) {
    const key = this.#prefix + name;
    let line = this.#byKey.get(key);
    if (line === undefined) {
      line = { key, ...make() };
      this.#byKey.set(key, line);
      this.lines.push(line);
    }
    return line;
  }

  #transcript({ utterance, text, final, language }) {
    const name = `said${utterance}`;
    if (!text && !this.#byKey.has(this.#prefix + name)) return null; // a cough, or no words yet
    const line = this.#line(name, () => ({ kind: "caller", typed: false }));
    return Object.assign(line, { text, final: final === true, language: language ?? "" });
  }

  #agent(turn) {
    return this.#line(`turn${turn}`, () => ({
      kind: "agent",
      turn,
      text: "",
      heard: 0,
      over: false,
      speech: "reply",
      intent: "",
      sources: [],
      language: "",
      latency: null,
      decisions: [],
    }));
  }

  #response({ turn_id, text, intent, sources, language, kind }) {
    const line = this.#agent(turn_id);
    if (!line.told) line.text = text ?? "";
    if (!line.told) line.speech = kind ?? "reply";
    line.intent = intent || line.intent;
    line.language = language || line.language;
    if (Array.isArray(sources) && sources.length > 0) line.sources = sources;
    return line;
  }

  /** What is spoken is what is true: from here on the text is no longer what the answer was meant to be. */
  #spoken({ turn_id, text, heard, done, kind }) {
    const line = this.#agent(turn_id);
    line.told = true;
    line.text = text ?? "";
    line.heard = heardChars(line.text, heard);
    line.over = done === true;
    line.speech = kind ?? line.speech;
    return line;
  }

  #interruption({ turn_id, decision }) {
    const line = this.#agent(turn_id);
    // A pause is over when it is decided: what came of it stands in its place.
    if (line.decisions.at(-1) === "paused" && decision !== "paused") line.decisions.pop();
    line.decisions.push(decision);
    if (decision === "cancelled") line.over = true;
    return line;
  }

  #latency({ turn_id, total_ms, parts }) {
    const line = this.#agent(turn_id);
    line.latency = { total_ms, parts: Array.isArray(parts) ? parts : [] };
    return line;
  }
}

/** `heard` is the beginning of the text that was heard. */
function heardChars(text, heard) {
  if (typeof heard !== "string") return 0;
  return text.startsWith(heard) ? heard.length : Math.min(heard.length, text.length);
}
