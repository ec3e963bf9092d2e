// Finding a session, and what surrounds it.

import { ask } from "./api.js";
import { byId, element, visible } from "./dom.js";
import { end, unsaved } from "./editor.js";
import { open, shown } from "./session.js";
import * as statistics from "./statistics.js";
import { say, trouble } from "./toast.js";

const LONGEST_IN_ADDRESS = 2000;
let cursors = [null]; // of the pages up to the one that is shown
let following = null;
let searches = 0;

// A key in double quotes is read as JSON, for what cannot be typed.
function wanted() {
  const text = byId("text").value;
  if (!/^".*"$/.test(text)) return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

async function search(pages = [null]) {
  const number = ++searches;
  const text = wanted();
  byId("found").textContent = "Searching…";
  let found;
  try {
    found = await ask("find", { text, cursor: pages.at(-1) });
  } catch (error) {
    if (number === searches) byId("found").textContent = error.message;
    return;
  }
  if (number !== searches) return; // there was another search meanwhile
  cursors = pages;
  following = found.cursor;
  byId("keys").replaceChildren(...keys(found, text).map(entry));
  byId("found").textContent = told(found, text);
  byId("first").disabled = byId("back").disabled = cursors.length === 1;
  byId("next").disabled = following === null;
}

// The session with exactly this key comes first, wherever the storage lists it.
const keys = (found, text) => (found.exact ? [text, ...found.keys.filter((key) => key !== text)] : found.keys);

function told(found, text) {
  const count = keys(found, text).length;
  const page = cursors.length > 1 || found.cursor !== null ? `Page ${cursors.length}: ` : "";
  const more = found.cursor === null ? "" : count ? ", and there are more" : " so far; go on with Next";
  return `${page}${count} session${count === 1 ? "" : "s"}${more}.`;
}

function entry(key) {
  const button = element("button", { type: "button" }, element("bdi", { textContent: visible(key, 80) }));
  button.addEventListener("click", () => choose(key));
  button.ariaCurrent = key === shown.key;
  button.key = key;
  return element("li", {}, button);
}

function choose(key) {
  if (unsaved() && !confirm("Leave the session without saving what you changed?")) return;
  end();
  open(key);
  for (const button of byId("keys").querySelectorAll("button")) button.ariaCurrent = button.key === key;
  history.replaceState(null, "", key.length <= LONGEST_IN_ADDRESS ? `#${encodeURIComponent(key)}` : "#");
}

function view(name) {
  for (const other of ["sessions", "statistics"]) {
    byId(other).hidden = other !== name;
    byId(`show-${other}`).setAttribute("aria-pressed", other === name);
  }
  if (name === "statistics") statistics.start(openFromStatistics);
  else statistics.stop();
}

function openFromStatistics(key) {
  view("sessions");
  choose(key);
}

async function invite() {
  try {
    const { address } = await ask("invite");
    await navigator.clipboard?.writeText(address).catch(() => {});
    say(`This address lets another browser of this machine in, once: ${address}`);
  } catch (error) {
    say(error.message);
  }
}

byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  search();
});
byId("first").addEventListener("click", () => search());
byId("back").addEventListener("click", () => search(cursors.slice(0, -1)));
byId("next").addEventListener("click", () => search([...cursors, following]));
byId("show-sessions").addEventListener("click", () => view("sessions"));
byId("show-statistics").addEventListener("click", () => view("statistics"));
byId("invite").addEventListener("click", invite);
addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.matches("input, textarea, select")) return;
  event.preventDefault();
  view("sessions");
  byId("text").focus();
});

function keyInAddress() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
}

async function start() {
  try {
    const about = await ask("about");
    byId("storage").textContent = about.storage;
    document.title = `${about.storage} · chatsession`;
    shown.readOnly = about.read_only;
    byId("read-only").hidden = !about.read_only;
  } catch (error) {
    return trouble(error.message);
  }
  const key = keyInAddress();
  if (key) choose(key);
  await search();
}

start();
