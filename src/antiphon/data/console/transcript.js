/** Draws the lines of a conversation (see conversation.js), and redraws of a line only what has changed. */

import { el } from "./dom.js";
import { stacked, waterfall } from "./waterfall.js";
import { count, DECISIONS, languageName, millis, spokenKind } from "./words.js";

/** Pixels from the end at which a reader still counts as being there. */
const NEAR_END = 80;

export class Transcript {
  #container;
  #people;
  #drawn = new Map();

  /**
   * `caller`: what the one who is not the agent is called. `sourcesOf(turn)` resolves to a turn's sources with their
   * texts: the socket tells only their names, and few are opened.
   */
  constructor(container, caller, sourcesOf = async () => []) {
    this.#container = container;
    this.#people = { caller, sourcesOf };
  }

  /** Draws a line, or draws it again. */
  update(line) {
    const follows = this.#atEnd();
    const draw = DRAWINGS[line.kind];
    const drawn = this.#drawn.get(line.key);
    if (drawn === undefined || (line.kind === "caller" && line.final && !drawn.final)) {
      // Final words come as a new element: additions are what a screen reader is told.
      const made = draw(line, this.#people);
      if (drawn === undefined) this.#container.append(made.node);
      else drawn.node.replaceWith(made.node);
      this.#drawn.set(line.key, made);
      made.update(line);
    } else {
      drawn.update(line);
    }
    if (follows) this.#toEnd();
  }

  /** Draws lines before all others: what was said before this page was loaded. They do not change any more. */
  precede(lines) {
    const nodes = lines.map((line) => {
      const made = DRAWINGS[line.kind](line, this.#people);
      made.update(line);
      return made.node;
    });
    this.#container.prepend(...nodes);
    this.#toEnd();
  }

  nodeOf(key) {
    return this.#drawn.get(key)?.node ?? null;
  }

  clear() {
    this.#container.replaceChildren();
    this.#drawn.clear();
  }

  #atEnd() {
    const { scrollTop, scrollHeight, clientHeight } = this.#container;
    return scrollHeight - scrollTop - clientHeight < NEAR_END;
  }

  #toEnd() {
    this.#container.scrollTop = this.#container.scrollHeight;
  }
}

const DRAWINGS = { caller: drawCaller, agent: drawAgent, note: drawNote };

function drawNote() {
  const node = el("p.line.note");
  return { node, update: (line) => node.replaceChildren(line.text) };
}

function drawCaller(first, { caller }) {
  const words = el("p.words");
  const chips = el("span.chips");
  const node = el("article.line.caller", {}, el("p.who", {}, caller, chips), words);
  const update = (line) => {
    node.classList.toggle("partial", !line.final);
    words.lang = line.language;
    words.replaceChildren(line.text || "(not understood)");
    chips.replaceChildren(
      ...[
        line.typed && chip("typed"),
        !line.final && chip("hearing"),
        line.final && line.language && chip(languageName(line.language)),
      ].filter(Boolean),
    );
  };
  return { node, update, final: first.final };
}

function drawAgent(first, { sourcesOf }) {
  const words = el("p.words");
  const chips = el("span.chips");
  const marks = el("p.marks");
  const sources = fold("sources");
  const latency = fold("latency");
  const node = el(
    "article.line.agent",
    { "data-turn": first.turn },
    el("p.who", {}, "Agent", chips),
    words,
    marks,
    el("div.folds", {}, latency.node, sources.node),
  );
  const update = (line) => {
    drawWords(words, line);
    drawChips(chips, line);
    marks.replaceChildren(...line.decisions.map((decision) => chip(DECISIONS[decision] ?? decision, decision)));
    sources.update(line.sources, line.sources.length > 0, () => drawSources(line.sources));
    sources.node.ontoggle = async () => {
      if (!sources.node.open || line.sources.every(({ text }) => text)) return;
      const told = new Map((await sourcesOf(line.turn)).map((source) => [source.id, source]));
      line.sources = line.sources.map((source) => told.get(source.id) ?? source);
      update(line);
    };
    latency.update(line.latency, line.latency !== null, () => drawLatency(line));
  };
  return { node, update };
}

/** What was heard is plain; what is still to come is grey; what never will be is struck. */
function drawWords(words, line) {
  const heard = line.text.slice(0, line.heard).trimEnd();
  const rest = line.text.slice(line.heard).trimStart();
  words.lang = line.language;
  words.hidden = line.text === ""; // a filler is heard before the answer has words
  words.replaceChildren(el("span.heard", {}, heard), heard && rest ? " " : "");
  if (rest && line.over) words.append(el("span.hidden", {}, "Not heard: "), el("s.unheard", {}, rest));
  else if (rest) words.append(el("span.coming", {}, rest));
}

function drawChips(chips, line) {
  const kind = spokenKind(line.speech);
  chips.replaceChildren(
    ...[
      kind && chip(kind),
      line.intent && chip(line.intent, "intent", "Intent"),
      line.language && chip(languageName(line.language), "language", "Language"),
    ].filter(Boolean),
  );
}

function chip(text, kind = "", title = "") {
  return el("span.chip", { "data-kind": kind || null, title: title || null }, text);
}

/** A part that can be opened. It is drawn anew only when its data are others: what a reader has opened stays open. */
function fold(kind) {
  const summary = el("summary");
  const body = el("div");
  const node = el(`details.${kind}`, { hidden: true }, summary, body);
  let known = "";
  const update = (data, shown, draw) => {
    const now = JSON.stringify(data);
    if (now === known) return;
    known = now;
    node.hidden = !shown;
    if (!shown) return;
    const drawn = draw();
    summary.replaceChildren(...drawn.summary);
    body.replaceChildren(drawn.body);
  };
  return { node, update };
}

function drawLatency({ latency, turn }) {
  return {
    summary: [el("span", {}, `Latency ${millis(latency.total_ms)}`), stacked(latency)],
    body: waterfall(latency, `Latency of turn ${turn}`),
  };
}

function drawSources(sources) {
  return {
    summary: [count(sources.length, "source")],
    body: el("ol", {}, sources.map(drawSource)),
  };
}

function drawSource(source) {
  const name = String(source.title || source.source || source.id || "untitled");
  const score = typeof source.score === "number" ? chip(`score ${source.score.toFixed(2)}`) : null;
  const from = source.source && source.source !== name ? el("p.dim", {}, String(source.source)) : null;
  if (!source.text) return el("li", {}, name, " ", score, from);
  return el(
    "li",
    {},
    el("details.source", {}, el("summary", {}, name, " ", score), el("p", {}, String(source.text)), from),
  );
}
