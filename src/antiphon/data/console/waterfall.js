/** Where the time of a turn went: one bar for a glance, and a table with a bar for each part. */

import { el } from "./dom.js";
import { millis, OWNERS, PARTS } from "./words.js";

/** `latency`: {total_ms, parts: [{name, ms, owner}]}, parts in the order in which they happened. */
export function waterfall(latency, title) {
  const total = Math.max(1, latency.total_ms);
  let begins = 0;
  const rows = [];
  for (const part of latency.parts) {
    if (part.ms > 0) rows.push(row(part, begins, total));
    begins += part.ms;
  }
  return el(
    "div.waterfall",
    {},
    el("p.total", {}, el("strong", {}, millis(latency.total_ms)), " from the end of your words to the first sound"),
    el(
      "table",
      {},
      // A caption that is itself taken out of the flow leaves an empty row behind, and with it equal columns.
      el("caption", {}, el("span.hidden", {}, `${title}: each part, whose time it is, how long it took`)),
      el("tbody", {}, rows),
    ),
    el("ul.owners", {}, owners(latency.parts)),
  );
}

/** One line of bars, joined. */
export function stacked(latency) {
  const total = Math.max(1, latency.total_ms);
  const bars = latency.parts
    .filter((part) => part.ms > 0)
    .map((part) => {
      const bar = el("span.bar", { "data-owner": part.owner, title: `${name(part)}: ${millis(part.ms)}` });
      bar.style.width = `${(100 * part.ms) / total}%`;
      return bar;
    });
  return el("span.stacked", { "aria-hidden": "true" }, bars);
}

function row(part, begins, total) {
  const bar = el("span.bar", { "data-owner": part.owner });
  bar.style.marginInlineStart = `${(100 * begins) / total}%`;
  bar.style.width = `${(100 * part.ms) / total}%`;
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, name(part), el("span.hidden", {}, `, ${OWNERS[part.owner] ?? part.owner}`)),
    el("td.when", {}, bar),
    el("td.long", {}, millis(part.ms)),
  );
}

function owners(parts) {
  return Object.entries(OWNERS).map(([owner, word]) => {
    const ms = parts.filter((part) => part.owner === owner).reduce((sum, part) => sum + part.ms, 0);
    return el("li", { "data-owner": owner }, `${word} ${millis(ms)}`);
  });
}

function name(part) {
  return PARTS[part.name] ?? String(part.name).replaceAll("_", " ");
}
