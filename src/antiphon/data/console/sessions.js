/** The second view: conversations that go on or are over, and one of them from its journal. */

import { Refused } from "./access.js";
import { el, say } from "./dom.js";
import { lanesOf } from "./lanes.js";
import { linesOf } from "./past.js";
import { Timeline } from "./timeline.js";
import { Transcript } from "./transcript.js";
import { clock, count, languageName, millis, plainCode, STATES } from "./words.js";

const LISTED = 100;
const LIST_EVERY_MS = 5_000;
const LIVE_EVERY_MS = 3_000;

const STATUS = { live: "live", detached: "line lost", closed: "over", interrupted: "broken off" };

export class Sessions {
  #root;
  #access;
  #askForKey;
  #timer = 0;
  /** Counts what was asked to be shown: an answer that comes when something else is shown is not drawn. */
  #shown = 0;
  #timeline = null;

  constructor(root, access, askForKey) {
    this.#root = root;
    this.#access = access;
    this.#askForKey = askForKey;
  }

  /** `id`: "" for the list. */
  show(id) {
    this.leave();
    const shown = this.#shown;
    if (id) this.#detail(id, shown);
    else this.#list(shown);
  }

  leave() {
    this.#shown += 1;
    clearTimeout(this.#timer);
    this.#timeline?.stop();
    this.#timeline = null;
  }

  // -- the list -----------------------------------------------------------------------------------

  #list(shown) {
    const body = el("tbody");
    const state = el("p.dim", { role: "status" }, "Reading the journal.");
    this.#root.replaceChildren(
      el("h2", {}, "Sessions"),
      state,
      el(
        "div.panel.table",
        {},
        el(
          "table.list",
          {},
          el("caption", {}, el("span.hidden", {}, "Sessions, newest first")),
          el("thead", {}, el("tr", {}, COLUMNS.map((name) => el("th", { scope: "col" }, name)))),
          body,
        ),
      ),
    );
    let known = "";
    const load = async () => {
      const answer = await this.#asked(() => this.#access.sessions(LISTED), shown, state, load);
      if (answer === null) return;
      const rows = answer.sessions;
      const live = rows.filter((row) => row.status === "live").length;
      const missing = answer.complete ? "" : " The journal does not answer: past sessions are missing.";
      const counted = `${count(rows.length, "session")}, ${live} live.${missing}`;
      say(state, rows.length === 0 && answer.complete ? NONE : counted);
      if (JSON.stringify(rows) !== known) redraw(body, rows);
      known = JSON.stringify(rows);
      this.#timer = setTimeout(load, LIST_EVERY_MS);
    };
    load();
  }

  // -- one of them --------------------------------------------------------------------------------

  #detail(id, shown) {
    const head = el("div.detail-head");
    const state = el("p.dim", { role: "status" }, "Reading the journal.");
    const lines = el("div.transcript", { tabindex: 0, role: "region", "aria-label": "Turns" });
    const transcript = new Transcript(lines, "Caller");
    let said = [];
    const timeline = new Timeline((at) => mark(transcript, said, at));
    this.#timeline = timeline;
    const outcome = el("p.replay", { role: "status" });
    const replay = el("button", { type: "button", click: () => this.#replay(id, shown, replay, outcome) }, "Replay");
    this.#root.replaceChildren(
      el("p", {}, el("a", { href: "#sessions" }, "← All sessions")),
      el("h2.id", {}, id),
      state,
      head,
      el("div.panel", {}, timeline.node),
      el("div.panel.replaying", {}, replay, el("span.dim", {}, REPLAY), outcome),
      el("div.panel", {}, lines),
    );
    const load = async () => {
      const read = () => Promise.all([this.#access.session(id), this.#access.timeline(id)]);
      const answer = await this.#asked(read, shown, state, load);
      if (answer === null) return;
      const [view, { entries }] = answer;
      say(state, "");
      head.replaceChildren(...facts(view));
      said = linesOf(view);
      for (const line of said) transcript.update(line);
      if (!timeline.playing) timeline.lanes = lanesOf(entries);
      if (view.status === "live") this.#timer = setTimeout(load, LIVE_EVERY_MS);
    };
    load();
  }

  async #replay(id, shown, button, outcome) {
    button.disabled = true;
    delete outcome.dataset.agrees;
    say(outcome, "Replaying.");
    const again = () => this.#replay(id, shown, button, outcome);
    const answer = await this.#asked(() => this.#access.replay(id), shown, outcome, again);
    button.disabled = false;
    if (answer === null) return;
    outcome.dataset.agrees = String(answer.identical);
    const agrees = `Every digest agrees: ${count(answer.entries, "entry", "entries")}.`;
    say(outcome, answer.identical ? agrees : differs(answer));
  }

  /** What `ask` answers; null if it was said why there is nothing, or if something else is shown by now. */
  async #asked(ask, shown, state, again) {
    try {
      const answer = await ask();
      return shown === this.#shown ? answer : null;
    } catch (error) {
      if (shown !== this.#shown) return null;
      if (!(error instanceof Refused)) {
        say(state, "The server cannot be reached. Trying again.");
        this.#timer = setTimeout(again, LIST_EVERY_MS);
      } else if (error.wantsKey) {
        say(state, "An API key is needed to see this.");
        if ((await this.#askForKey(error.message)) && shown === this.#shown) again();
      } else {
        say(state, error.status === 404 ? "There is no such session." : plainCode(error.code, error.message));
      }
      return null;
    }
  }
}

const REPLAY = "Decides the whole conversation once more and compares.";
const NONE = "No conversation yet: talk to the agent, or call it.";
const COLUMNS = ["Session", "Status", "Began", "Line", "Language", "Turns", "Length"];

/** Rows are drawn anew, and the focus stays where it was. */
function redraw(body, rows) {
  const focused = document.activeElement?.closest?.("tr")?.dataset.id;
  body.replaceChildren(...rows.map(row));
  if (focused !== undefined) body.querySelector(`tr[data-id="${CSS.escape(focused)}"] a`)?.focus();
}

function row(session) {
  const cells = [
    el("a", { href: `#sessions/${encodeURIComponent(session.session_id)}` }, session.session_id),
    el("span.chip", { "data-kind": session.status }, statusOf(session)),
    when(session.started_at),
    session.transport,
    languageName(session.language),
    String(session.last_turn),
    clock(session.duration_ms),
  ];
  const [id, ...others] = cells;
  return el(
    "tr",
    { "data-id": session.session_id },
    el("th", { scope: "row" }, id),
    others.map((cell) => el("td", {}, cell)),
  );
}

function statusOf({ status, floor }) {
  const name = STATUS[status] ?? status;
  return status === "live" && STATES[floor] ? `${name}: ${STATES[floor].name.toLowerCase()}` : name;
}

function when(text) {
  if (!text) return "";
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) return text;
  return time.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

function facts(view) {
  const { turns, answered, interruptions } = view.counts;
  const known = [
    ["Status", statusOf(view)],
    ["Began", when(view.started_at)],
    ["Length", clock(view.duration_ms, true)],
    ["Line", view.transport],
    ["Language", languageName(view.language)],
    ["Turns", `${turns}, ${answered} answered`],
    ["Interruptions", String(interruptions)],
    ["To the first sound", view.median_ms === null ? "" : `${millis(view.median_ms)} (median)`],
    ["Ended", view.status === "closed" ? view.ended : ""],
  ];
  return known.filter(([, value]) => value).map(([name, value]) => el("p", {}, el("span.dim", {}, name), " ", value));
}

function differs({ diverged, error }) {
  if (diverged === null) return `It could not be decided once more: ${error}`;
  const now = diverged.decided_now.length > 0 ? diverged.decided_now.join(", ") : "nothing";
  return `Entry ${diverged.seq} (${diverged.event}) is decided otherwise by today's code. It decides: ${now}.`;
}

/** Marks the line that belongs to this moment of the journal. */
function mark(transcript, lines, at) {
  const now = lines.filter((line) => line.at <= at).at(-1);
  for (const line of lines) transcript.nodeOf(line.key)?.classList.toggle("now", line === now);
}
