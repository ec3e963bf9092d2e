// Finding a session, the views, and the way back through both.

import { ask } from "./api.js";
import { byId, bytes, counted, duration, element, visible } from "./dom.js";
import { end, unsaved } from "./editor.js";
import * as lists from "./lists.js";
import { keyInAddress, onShown, open, shown } from "./session.js";
import * as statistics from "./statistics.js";
import { say, trouble } from "./toast.js";

const VIEWS = ["sessions", "locks", "problems", "changes", "statistics"];
let cursors = [null]; // of the pages up to the one that is shown
let following = null;
let searches = 0;
let staying = false; // Back was pressed, but the session has unsaved changes and is kept

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
  const asked = { text: wanted(), value: byId("value").value, order: byId("order").value || null, cursor: pages.at(-1) };
  byId("found").textContent = "Searching…";
  let found;
  try {
    found = await ask("find", asked);
  } catch (error) {
    if (number === searches) byId("found").textContent = error.message;
    return null;
  }
  if (number !== searches) return null; // there was another search meanwhile
  cursors = pages;
  following = found.cursor;
  byId("keys").replaceChildren(...found.sessions.map((session) => entry(session, found.now)));
  byId("found").textContent = told(found, asked);
  byId("first").disabled = byId("back").disabled = cursors.length === 1;
  byId("next").disabled = following === null;
  return found;
}

function told(found, asked) {
  const count = found.sessions.length;
  if (!count && found.cursor === null) return nothing(asked);
  if (found.matching !== null) {
    const all = found.matching > count ? `The first ${count.toLocaleString("en")} of ${counted(found.matching, "session")}` : counted(count, "session");
    return found.complete ? `${all}.` : `${all} that could be looked at in time.`;
  }
  const page = cursors.length > 1 || found.cursor !== null ? `Page ${cursors.length}: ` : "";
  const more = found.cursor === null ? "" : count ? ", and there are more" : " so far; go on with Next";
  return `${page}${counted(count, "session")}${more}.`;
}

function nothing({ text, value, cursor }) {
  if (cursor !== null) return "No more sessions.";
  if (value) return "No session has this value.";
  return text ? "There is no session with this prefix." : "There are no sessions yet.";
}

const about = ({ size, expires_at: at }, now) => bytes(size) + (at === null ? "" : `, expires in ${duration(at - now)}`);

function entry(session, now) {
  const { key } = session;
  const made = element("button", { type: "button" }, element("bdi", { textContent: visible(key, 80) }), element("small", {}, about(session, now)));
  made.addEventListener("click", () => choose(key));
  made.ariaCurrent = key === shown.key;
  made.key = key;
  return element("li", {}, made);
}

const mayLeave = () => !unsaved() || confirm("Leave the session without saving what you changed?");

function choose(key, remember = true) {
  if (key === shown.key) return true;
  if (!mayLeave()) return false;
  end();
  open(key, remember);
  return true;
}

function view(name) {
  for (const other of VIEWS) {
    byId(other).hidden = other !== name;
    byId(`show-${other}`).setAttribute("aria-pressed", other === name);
  }
  statistics.stop();
  lists.stop();
  if (name === "statistics") statistics.start(openFromView);
  else if (name !== "sessions") lists.start(name, openFromView);
}

function openFromView(key) {
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

byId("search").addEventListener("submit", async (event) => {
  event.preventDefault();
  const found = await search();
  if (found?.exact) choose(wanted());
});
byId("order").addEventListener("change", () => search());
byId("first").addEventListener("click", () => search());
byId("back").addEventListener("click", () => search(cursors.slice(0, -1)));
byId("next").addEventListener("click", () => search([...cursors, following]));
for (const name of VIEWS) byId(`show-${name}`).addEventListener("click", () => view(name));
byId("look-again").addEventListener("click", () => view("problems"));
byId("invite").addEventListener("click", invite);
addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.matches("input, textarea, select")) return;
  event.preventDefault();
  view("sessions");
  byId("text").focus();
});
addEventListener("popstate", () => {
  if (staying) {
    staying = false;
    return;
  }
  view("sessions");
  staying = !choose(keyInAddress(), false);
  if (staying) history.forward();
});
onShown((data) => {
  for (const made of byId("keys").querySelectorAll("button")) {
    made.ariaCurrent = made.key === data.key;
    if (made.key === data.key && data.stored) made.querySelector("small").textContent = about(data, Date.now() / 1000);
  }
});

async function start() {
  try {
    const { storage, read_only: readOnly, expiring, wait } = await ask("about");
    byId("storage").textContent = storage;
    document.title = `${storage} · chatsession`;
    Object.assign(shown, { readOnly, expiring, wait });
    byId("read-only").hidden = !readOnly;
  } catch (error) {
    return trouble(error.message);
  }
  const key = keyInAddress();
  if (key !== null) choose(key, false);
  await search();
}

start();
