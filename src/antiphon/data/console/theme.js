/* Runs before the first paint, so that the page does not flash in the other colours. Not a module: those come later. */
"use strict";
try {
  const chosen = localStorage.getItem("antiphon.theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage is refused to this page: the system's colours it is.
}
