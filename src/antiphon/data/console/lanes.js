/** A journal's entries as stretches of time: who spoke when, who had the floor, what happened. Pure. */

/** Events that are worth a mark of their own, and what they are called. */
const MARKS = {
  TranscriptFinal: ["words", (data) => `heard: ${data.text || "(nothing understood)"}`],
  TextTyped: ["words", (data) => `typed: ${data.text}`],
  DigitPressed: ["words", (data) => `key ${data.digit}`],
  TranscriptionFailed: ["failure", (data) => `transcript failed: ${data.code}`],
  IntentReady: ["work", (data) => `intent: ${data.intent}`],
  PassagesReady: ["work", (data) => `passages: ${data.passages.length}`],
  LanguageSwitched: ["work", (data) => `language: ${data.language}`],
  StageFailed: ["failure", (data) => `${data.stage} failed: ${data.code}`],
  StageRerouted: ["failure", (data) => `${data.stage}: ${data.to} instead of ${data.provider}`],
  PlayoutStarved: ["failure", () => "ran dry: silence"],
  PlayoutStopped: ["interruption", () => "the agent was stopped"],
  LineDropped: ["failure", (data) => `line lost: ${data.code}`],
  LineAttached: ["work", () => "line back"],
  CallerHungUp: ["work", () => "the caller hung up"],
  SessionClosed: ["work", (data) => `closed: ${data.reason}`],
};

/** After these nothing of the agent sounds. */
const SILENCES = new Set(["PlayoutFinished", "PlayoutStopped", "LineDropped", "SessionClosed"]);

/**
 * `entries`: [{seq, at_ms, event, floor, data}]. Returns {duration, caller, agent, floor, marks}; stretches are
 * {from, to, label}, those of `floor` with a `state`; marks are {at, kind, label}.
 */
export function lanesOf(entries) {
  const began = entries[0]?.at_ms ?? 0;
  const lanes = { duration: 0, caller: [], agent: [], floor: [], marks: [] };
  const open = { caller: null, agent: null, floor: null };
  const close = (lane, at) => {
    if (open[lane] === null) return;
    if (at > open[lane].from) lanes[lane].push({ ...open[lane], to: at });
    open[lane] = null;
  };
  const begin = (lane, stretch) => {
    close(lane, stretch.from);
    open[lane] = stretch;
  };
  const texts = new Map();
  const sounding = new Set(); // a segment begins before the one ahead of it has been heard to its end
  let said = "";
  for (const { at_ms, event, floor: state, data } of entries) {
    const at = at_ms - began;
    lanes.duration = at;
    if (state && state !== open.floor?.state) {
      // The floor decides whether the agent sounds: a pause is silence until it goes on.
      if (state === "INTERRUPT") close("agent", at);
      const goesOn = state === "SPEAKING" && open.floor?.state === "INTERRUPT" && sounding.size > 0;
      if (goesOn) begin("agent", { from: at, label: said });
      begin("floor", { from: at, state, label: state });
    }
    const segment = `${data.turn} ${data.segment}`;
    if (event === "SegmentReady") texts.set(segment, data.text);
    else if (event === "SpeechStarted") begin("caller", { from: at, label: "" });
    else if (event === "SpeechStopped") close("caller", Math.max(0, at - (data.hangover_ms ?? 0)));
    else if (event === "TranscriptFinal") label(lanes.caller, open.caller, data.text);
    else if (event === "SegmentStarted") {
      said = texts.get(segment) ?? "";
      sounding.add(segment);
      begin("agent", { from: at, label: said });
    } else if (event === "SegmentPlayed") {
      sounding.delete(segment);
      if (sounding.size === 0) close("agent", at);
    } else if (SILENCES.has(event)) {
      sounding.clear();
      close("agent", at);
    }
    const [kind, words] = MARKS[event] ?? [];
    if (kind) lanes.marks.push({ at, kind, label: words(data) });
  }
  for (const lane of Object.keys(open)) close(lane, lanes.duration);
  return lanes;
}

/** A transcript comes after its sound: it names the stretch that is open, else the last one. */
function label(stretches, open, text) {
  const stretch = open ?? stretches.at(-1);
  if (stretch) stretch.label = [stretch.label, text].filter(Boolean).join(" ");
}

/** What goes on at a moment: {state, caller, agent}, the last two "" where nobody speaks. */
export function momentOf(lanes, at) {
  const during = (stretches) => stretches.find(({ from, to }) => from <= at && at < to);
  const saying = (stretch) => (stretch === undefined ? "" : stretch.label || "(speaks)");
  return {
    state: during(lanes.floor)?.state ?? lanes.floor.at(-1)?.state ?? "IDLE",
    caller: saying(during(lanes.caller)),
    agent: saying(during(lanes.agent)),
  };
}
