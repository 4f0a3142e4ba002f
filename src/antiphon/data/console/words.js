/** How things are called on the page: states, parts, codes and times, in plain words. */

export const STATES = {
  IDLE: { name: "Idle", floor: "Nobody has the floor." },
  LISTENING: { name: "Listening", floor: "You have the floor." },
  THINKING: { name: "Thinking", floor: "The agent is about to speak." },
  SPEAKING: { name: "Speaking", floor: "The agent has the floor." },
  INTERRUPT: { name: "Interrupt", floor: "You spoke over the agent. Who goes on is being decided." },
};

/** The parts of a turn's latency, in the order in which they come. */
export const PARTS = {
  hangover: "end of speech",
  endpointing: "end of turn",
  stt: "final transcript",
  understanding: "intent, retrieval",
  first_text: "first text",
  first_segment: "first sentence",
  synthesis: "voice",
  playout: "playout",
};

export const OWNERS = { wait: "wait", provider: "provider", antiphon: "Antiphon" };

export const DECISIONS = {
  paused: "paused: you spoke",
  resumed: "went on: it was no interruption",
  cancelled: "stopped: you took the floor",
};

const SPOKEN_KINDS = {
  greeting: "greeting",
  filler: "filler",
  apology: "apology",
  reprompt: "asked again",
  goodbye: "goodbye",
};

/** What kind of speech it was, "" for a plain answer. */
export function spokenKind(kind) {
  return !kind || kind === "reply" ? "" : (SPOKEN_KINDS[kind] ?? kind.replaceAll("_", " "));
}

const CODES = {
  "line.idle": "Nothing was said for a while, so the line was closed.",
  "orchestrate.mixed": "This conversation is held in text: its words come from somewhere else than this microphone.",
  "session.other": "A message named another conversation.",
  "admission.full": "All lines are busy.",
  "server.draining": "The server is about to stop.",
};

const ENDS = {
  goodbye: "The agent said goodbye.",
  hung_up: "You ended the conversation.",
  client: "You ended the conversation.",
  silence: "Nobody spoke any more.",
};

/** A code of the server in words; what is not known is shown as it is. */
export function plainCode(code, message = "") {
  return CODES[code] ?? (message ? `${message} (${code})` : code);
}

/** Why a conversation ended. */
export function plainEnd(reason) {
  if (!reason) return "The conversation is over.";
  return ENDS[reason] ?? `The conversation is over (${reason}).`;
}

/** "m:ss" or "m:ss.t" of a place in a conversation. */
export function clock(ms, tenths = false) {
  const whole = Math.max(0, Math.floor(ms / (tenths ? 100 : 1000)));
  const seconds = tenths ? Math.floor(whole / 10) : whole;
  const text = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  return tenths ? `${text}.${whole % 10}` : text;
}

/** "1,234 ms" in the reader's own way. */
export function millis(ms) {
  return `${Math.round(ms).toLocaleString()} ms`;
}

/** "3 turns", "1 turn"; `many` where the plural is not the word with an s. */
export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString()} ${number === 1 ? one : many}`;
}

/** A language's name for readers, with its tag where there is none: "Hindi (India)". */
export function languageName(tag) {
  if (!tag) return "";
  try {
    return new Intl.DisplayNames(["en"], { type: "language" }).of(tag) ?? tag;
  } catch {
    return tag; // not a language tag
  }
}
