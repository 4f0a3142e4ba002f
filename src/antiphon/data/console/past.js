/** A conversation from the journal, as the lines that conversation.js describes. Pure. */

const OVER = new Set(["heard", "partly", "unheard", "dropped"]);

/** `view`: what `GET /sessions/{id}` answers. Each line also says when it began (`at`, ms of the journal). */
export function linesOf(view) {
  const lines = [];
  for (const turn of view.turns) {
    if (turn.question) lines.push(question(turn));
    else lines.push(...turn.speech.map(unanswered));
    if (turn.answer) lines.push(answer(turn));
  }
  lines.push(...view.unanswered.map(unanswered), ...view.line.map(note));
  return lines.sort((one, other) => one.at - other.at);
}

function question(turn) {
  return {
    kind: "caller",
    key: `question${turn.turn}`,
    at: turn.speech[0]?.at_ms ?? turn.at_ms,
    turn: turn.turn,
    text: turn.question,
    final: true,
    language: turn.language,
    typed: turn.input === "typed",
  };
}

function unanswered(speech) {
  return {
    kind: "caller",
    key: `said${speech.utterance}`,
    at: speech.at_ms,
    text: speech.text,
    final: true,
    language: speech.language,
    typed: false,
  };
}

function answer(turn) {
  const segments = turn.segments.filter((segment) => segment.heard !== "dropped");
  return {
    kind: "agent",
    key: `turn${turn.turn}`,
    at: Math.max(turn.at_ms, segments[0]?.at_ms ?? 0),
    turn: turn.turn,
    text: turn.answer,
    heard: turn.heard.length,
    over: segments.every((segment) => OVER.has(segment.heard)),
    speech: segments.findLast(({ kind }) => kind !== "filler")?.kind ?? "filler",
    intent: turn.intent,
    language: turn.language,
    sources: turn.sources,
    latency: turn.latency,
    decisions: turn.interruptions.map(({ decision }) => decision),
  };
}

const LINE_EVENTS = {
  dropped: "The line was lost.",
  attached: "The line came back.",
  hung_up: "The caller hung up.",
  closed: "The conversation is over.",
};

function note({ at_ms: at, kind, detail }) {
  const text = LINE_EVENTS[kind] ?? kind;
  const known = detail && kind !== "closed" ? `${text} (${detail})` : text;
  return { kind: "note", key: `line${at}${kind}`, at, text: known };
}
