/** The page: its two views, its colours, and the one question it may have to ask, for a key. */

import { Access } from "./access.js";
import { byId, say, show } from "./dom.js";
import { Sessions } from "./sessions.js";
import { Talk } from "./talk.js";

const THEMES = { system: "dark", dark: "light", light: "system" };

const access = new Access();
const talk = new Talk(access, askForKey);
const sessions = new Sessions(byId("sessions-view"), access, askForKey);
/** For whoever looks at the page from outside: how much was played, in samples. */
window.antiphon = Object.freeze({ played: () => ({ ...talk.played }) });

// -- views ----------------------------------------------------------------------------------------

function route() {
  const [view, ...rest] = window.location.hash.slice(1).split("/");
  const listed = view === "sessions";
  show(byId("talk-view"), !listed);
  show(byId("sessions-view"), listed);
  current(byId("to-talk"), !listed);
  current(byId("to-sessions"), listed);
  document.title = listed ? "Sessions - Antiphon" : "Antiphon";
  if (listed) sessions.show(decoded(rest.join("/")));
  else sessions.leave();
}

function current(link, is) {
  if (is) link.setAttribute("aria-current", "page");
  else link.removeAttribute("aria-current");
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // somebody wrote the address by hand
  }
}

window.addEventListener("hashchange", () => {
  route();
  byId("main").focus();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names the view
  byId("main").focus();
});

// -- colours --------------------------------------------------------------------------------------

function theme() {
  return document.documentElement.dataset.theme ?? "system";
}

function choose(chosen) {
  if (chosen === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  say(byId("theme"), `Colours: ${chosen}`);
  talk.recolour();
}

byId("theme").addEventListener("click", () => {
  const chosen = THEMES[theme()];
  choose(chosen);
  try {
    localStorage.setItem("antiphon.theme", chosen);
  } catch {
    // Storage is refused to this page: the choice holds until it is closed.
  }
});
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => talk.recolour());
choose(theme());

// -- the key --------------------------------------------------------------------------------------

/** Resolves to whether a key was given. Asked again while it is open, it is the same question. */
function askForKey(why) {
  const dialog = byId("key-dialog");
  say(byId("key-why"), access.hasKey ? why : "This server is not on your own machine: who may talk to it has a key.");
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => {
        const given = dialog.returnValue === "given";
        if (given) access.key = byId("key").value;
        byId("key").value = "";
        dialog.returnValue = "";
        resolve(given);
      },
      { once: true },
    );
  });
}

byId("key-cancel").addEventListener("click", () => byId("key-dialog").close());
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  byId("key-dialog").close("given");
});

route();
