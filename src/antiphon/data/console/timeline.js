/** The drawing of a conversation on a time axis, and its player: a cursor that runs along. */

import { el, reducedMotion, say, svg } from "./dom.js";
import { momentOf } from "./lanes.js";
import { clock, STATES } from "./words.js";

const LANES = [
  { name: "caller", title: "Caller", y: 4, height: 26 },
  { name: "agent", title: "Agent", y: 36, height: 26 },
  { name: "floor", title: "Floor", y: 68, height: 16 },
  { name: "marks", title: "Events", y: 92, height: 14 },
];
const AXIS_Y = 112;
const HEIGHT = 130;
const STEPS_MS = [100, 250, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 300_000, 900_000, 3_600_000];
const STILL_MS = 250;

export class Timeline {
  #lanes = null;
  #at = 0;
  #playing = 0;
  #before = 0;
  #onMoment;
  #drawing = el("div.timeline-drawing");
  #cursor = null;
  #seek = el("input", {
    type: "range",
    min: 0,
    step: 100,
    "aria-label": "Place in the conversation",
    input: () => this.#sought(),
  });
  #button = el("button.primary", { type: "button", click: () => this.toggle() }, "Play");
  #speed = el("select", {}, el("option", { value: 1 }, "1×"), el("option", { value: 4 }, "4×"));
  #time = el("span.time");
  #now = el("p.timeline-now");
  node = el(
    "div.timeline",
    {},
    el(
      "div.timeline-rows",
      {},
      el(
        "div.timeline-names",
        { "aria-hidden": "true" },
        LANES.map(({ title, name }) => el(`span.${name}`, {}, title)),
      ),
      this.#drawing,
    ),
    this.#seek,
    el("div.timeline-controls", {}, this.#button, el("label", {}, "Speed ", this.#speed), this.#time),
    this.#now,
  );

  /** `onMoment(ms)` is told of every place the cursor comes to. */
  constructor(onMoment) {
    this.#onMoment = onMoment;
  }

  /** Draws other lanes; the cursor stays where it is. */
  set lanes(lanes) {
    this.#lanes = lanes;
    this.#seek.max = String(lanes.duration);
    this.#cursor = svg("line.cursor", { y1: 0, y2: AXIS_Y });
    this.#drawing.replaceChildren(drawn(lanes, this.#cursor, (at) => this.moveTo(at)));
    this.moveTo(Math.min(this.#at, lanes.duration));
  }

  get playing() {
    return this.#playing !== 0;
  }

  toggle() {
    if (this.playing) {
      this.stop();
      return;
    }
    if (this.#at >= this.#lanes.duration) this.moveTo(0);
    say(this.#button, "Pause");
    this.#before = performance.now();
    this.#playing = -1;
    this.#next();
  }

  stop() {
    if (reducedMotion.matches) clearTimeout(this.#playing);
    else cancelAnimationFrame(this.#playing);
    this.#playing = 0;
    say(this.#button, "Play");
  }

  moveTo(at) {
    this.#at = at;
    const { duration } = this.#lanes;
    this.#seek.value = String(at);
    this.#seek.setAttribute("aria-valuetext", clock(at, true));
    const x = `${(100 * at) / Math.max(1, duration)}%`;
    this.#cursor.setAttribute("x1", x);
    this.#cursor.setAttribute("x2", x);
    say(this.#time, `${clock(at, true)} of ${clock(duration, true)}`);
    const { state, caller, agent } = momentOf(this.#lanes, at);
    this.#now.dataset.state = state;
    const voices = [caller && `Caller: ${caller}`, agent && `Agent: ${agent}`].filter(Boolean);
    say(this.#now, [STATES[state]?.name ?? state, ...voices].join(". "));
    this.#onMoment(at);
  }

  #sought() {
    this.stop();
    this.moveTo(Number(this.#seek.value));
  }

  /** With reduced motion the cursor goes in steps instead of gliding. */
  #next() {
    const step = () => {
      if (!this.playing) return;
      const now = performance.now();
      const at = this.#at + (now - this.#before) * Number(this.#speed.value);
      this.#before = now;
      this.moveTo(Math.min(at, this.#lanes.duration));
      if (at >= this.#lanes.duration) this.stop();
      else this.#next();
    };
    this.#playing = reducedMotion.matches ? setTimeout(step, STILL_MS) : requestAnimationFrame(step);
  }
}

function drawn(lanes, cursor, moveTo) {
  const duration = Math.max(1, lanes.duration);
  const percent = (ms) => `${(100 * ms) / duration}%`;
  const stretch = ({ y, height }, { from, to, label, state }, kind) =>
    svg(
      `rect.${kind}`,
      { x: percent(from), width: percent(Math.max(to - from, duration / 600)), y, height, rx: 3, "data-state": state },
      svg("title", {}, `${clock(from, true)} to ${clock(to, true)} ${label}`),
    );
  const place = ({ target, clientX }) => {
    const box = target.closest("svg").getBoundingClientRect();
    moveTo(Math.round(Math.max(0, Math.min(1, (clientX - box.left) / box.width)) * duration));
  };
  const [caller, agent, floor, marks] = LANES;
  return svg(
    "svg",
    { width: "100%", height: HEIGHT, role: "img", "aria-label": summaryOf(lanes), click: place },
    ticks(duration).map((at) => {
      const anchor = at === 0 ? "start" : "middle";
      return [
        svg("line.tick", { x1: percent(at), x2: percent(at), y1: 0, y2: AXIS_Y }),
        svg("text.tick", { x: percent(at), y: HEIGHT - 4, "text-anchor": anchor }, clock(at, duration < 5000)),
      ];
    }),
    lanes.floor.map((each) => stretch(floor, each, "floor")),
    lanes.caller.map((each) => stretch(caller, each, "caller")),
    lanes.agent.map((each) => stretch(agent, each, "agent")),
    lanes.marks.map(({ at, kind, label }) =>
      svg(
        "circle.mark",
        { cx: percent(at), cy: marks.y + marks.height / 2, r: 4, "data-kind": kind },
        svg("title", {}, `${clock(at, true)} ${label}`),
      ),
    ),
    cursor,
  );
}

/** At most eight places on the axis, at round times, none so near the end that its text would be cut. */
function ticks(duration) {
  const step = STEPS_MS.find((each) => duration / each <= 8) ?? duration;
  const found = [];
  for (let at = 0; at <= duration * 0.97; at += step) found.push(at);
  return found;
}

function summaryOf(lanes) {
  const share = (stretches) => clock(stretches.reduce((sum, { from, to }) => sum + to - from, 0), true);
  return (
    `Timeline of ${clock(lanes.duration, true)}: the caller speaks for ${share(lanes.caller)}, ` +
    `the agent for ${share(lanes.agent)}, ${lanes.marks.length} events`
  );
}
