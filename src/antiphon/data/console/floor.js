/** Who may speak: the state in large letters, the five states, and the last half minute of both voices. */

import { byId, reducedMotion, say } from "./dom.js";
import { STATES } from "./words.js";

const SECONDS = 30;
const STEP_MS = 100;
/** Speech is seldom louder than this: the scale of the drawing. */
const LOUD = 0.25;

export class Floor {
  #now = byId("floor-now");
  #canvas = byId("scope");
  #history = [];
  #state = "IDLE";
  #levels = { you: 0, agent: 0 };
  #colours = null;

  constructor() {
    setInterval(() => this.#step(), STEP_MS);
    new ResizeObserver(() => this.#draw()).observe(this.#canvas);
  }

  get state() {
    return this.#state;
  }

  set state(state) {
    if (!(state in STATES)) return;
    this.#state = state;
    this.#now.dataset.state = state;
    say(byId("state"), STATES[state].name);
    say(byId("floor-words"), STATES[state].floor);
    for (const item of document.querySelectorAll(".states li")) {
      item.classList.toggle("on", item.dataset.state === state);
    }
  }

  /** A level of one of the voices, 0..1; the loudest of each step is drawn. */
  level(who, level) {
    this.#levels[who] = Math.max(this.#levels[who], level);
  }

  /** The page's colours have changed. */
  recolour() {
    this.#colours = null;
    this.#draw();
  }

  #step() {
    this.#history.push({ state: this.#state, ...this.#levels });
    if (this.#history.length > (SECONDS * 1000) / STEP_MS) this.#history.shift();
    this.#levels = { you: 0, agent: 0 };
    const still = reducedMotion.matches && this.#history.length % 10 !== 0;
    if (!document.hidden && !still) this.#draw();
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    if (width === 0) return; // not shown
    const scale = window.devicePixelRatio || 1;
    if (this.#canvas.width !== Math.round(width * scale) || this.#canvas.height !== Math.round(height * scale)) {
      this.#canvas.width = Math.round(width * scale);
      this.#canvas.height = Math.round(height * scale);
    }
    this.#colours ??= coloursOf(this.#canvas);
    const pen = this.#canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    const step = width / ((SECONDS * 1000) / STEP_MS);
    const middle = height / 2;
    const first = width - this.#history.length * step;
    this.#history.forEach((moment, at) => {
      const x = first + at * step;
      pen.fillStyle = this.#colours[moment.state];
      pen.globalAlpha = moment.state === "IDLE" ? 0.06 : 0.16;
      pen.fillRect(x, 0, step + 0.5, height);
      pen.globalAlpha = 1;
      bar(pen, this.#colours.you, x, middle, -heightOf(moment.you, middle), step);
      bar(pen, this.#colours.agent, x, middle, heightOf(moment.agent, middle), step);
    });
    pen.fillStyle = this.#colours.line;
    pen.fillRect(0, middle - 0.5, width, 1);
  }
}

function bar(pen, colour, x, middle, height, step) {
  if (height === 0) return;
  pen.fillStyle = colour;
  pen.fillRect(x, middle, Math.max(1, step - 0.5), height);
}

/** Loudness as ears take it: the root makes quiet speech visible. */
function heightOf(level, most) {
  return level < 0.002 ? 0 : Math.max(1, Math.min(1, Math.sqrt(level / LOUD)) * (most - 2));
}

function coloursOf(canvas) {
  const style = getComputedStyle(canvas);
  const probe = document.createElement("span");
  canvas.parentElement.append(probe);
  const found = {};
  for (const name of ["you", "agent", "line", ...Object.keys(STATES)]) {
    // Computed through a property that takes a colour: a custom property by itself stays unresolved.
    probe.style.color = style.getPropertyValue(`--${name.toLowerCase()}`);
    found[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}
