/**
 * Elements from data. Whatever came over a wire becomes a text node or the value of an attribute that is chosen here:
 * nothing in this page reads a string as HTML, and the server's Content-Security-Policy forbids it too.
 */

const SVG = "http://www.w3.org/2000/svg";

/** `name` is a tag with classes, as in "div.turn.agent". Attributes that are null, undefined or false are left out. */
export function el(name, attributes = {}, ...children) {
  return filled(document.createElement(name.split(".")[0]), name, attributes, children);
}

/** The same for a drawing. */
export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name.split(".")[0]), name, attributes, children);
}

function filled(node, name, attributes, children) {
  const classes = name.split(".").slice(1);
  if (classes.length > 0) node.classList.add(...classes);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(key, value);
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** The element of that id. Throws where the page has none: a misspelt id is a defect. */
export function byId(id) {
  const node = document.getElementById(id);
  if (node === null) throw new Error(`the page has no #${id}`);
  return node;
}

/** Sets text only where it changes, so that a screen reader is not told the same again. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Shows or hides. */
export function show(node, shown) {
  node.hidden = !shown;
}

export const reducedMotion = window.matchMedia("(prefers-reduced-motion: reduce)");
