// One session: shown, watched, deleted.

import { ask, follow } from "./api.js";
import { byId, bytes, element, time, visible } from "./dom.js";
import { parse } from "./json.js";
import { say, trouble } from "./toast.js";
import { tree } from "./tree.js";

const MOST_CHANGES = 50;
const MOST_UNFOLDED = 2000;

// What is shown: `data` as the server told it, `node` its JSON.
export const shown = { key: null, data: null, node: null, readOnly: false, whole: false };

let watching = new AbortController();
let unfolded = new Map();
const listeners = [];

// Calls the listener with every session that is shown, also when it is the same one changed.
export const onShown = (listener) => listeners.push(listener);

export function open(key) {
  Object.assign(shown, { key, data: null, node: null, whole: false });
  unfolded = new Map();
  byId("changes").replaceChildren();
  byId("history").hidden = true;
  byId("nothing").hidden = key !== null;
  byId("session").hidden = true;
  byId("key").textContent = key === null ? "" : visible(key);
  watch();
}

function watch() {
  watching.abort();
  watching = new AbortController();
  const { signal } = watching;
  const { key, whole } = shown;
  if (key === null) return;
  live(false);
  follow("watch", { key, whole }, signal, (name, data) => {
    if (signal.aborted) return;
    live(name === "session");
    trouble(name === "session" ? "" : data.error);
    if (name === "session") show(data);
  });
}

function live(connected) {
  byId("live").textContent = connected ? "● live" : "○ not connected";
  byId("live").className = connected ? "connected" : "";
}

export function show(data) {
  const before = shown.data;
  if (data.key !== shown.key) return;
  if (before?.mark === data.mark && before.text != null && data.text == null) return;
  const same = before?.mark === data.mark;
  if (before && !same) note(before, data);
  const drawn = same && before.text === data.text; // what was unfolded in it stays so
  const node = drawn ? shown.node : data.kind === "json" && data.text ? parsed(data.text) : null;
  const compared = before && !same ? shown.node : undefined;
  Object.assign(shown, { data, node });
  byId("session").hidden = false;
  byId("about").replaceChildren(...about(data).map((text) => element("li", {}, text)));
  byId("problem").textContent = data.problem ?? "";
  byId("problem").hidden = !data.problem;
  byId("edit").textContent = data.stored && !data.vacant ? "Edit" : "Create";
  byId("edit").hidden = shown.readOnly || data.hidden;
  byId("delete").hidden = shown.readOnly || !data.stored;
  byId("unfold").hidden = !node?.entries;
  byId("load").hidden = !data.stored || data.text !== null;
  if (!drawn) byId("tree").replaceChildren(content(data, node, compared));
  for (const listener of listeners) listener(data);
}

function parsed(text) {
  try {
    return parse(text);
  } catch {
    return null;
  }
}

function content(data, node, compared) {
  if (!data.stored) return element("p", { className: "hint", textContent: "Nothing is stored under this key." });
  if (data.hidden) return element("p", { className: "hint", textContent: "encrypted" });
  if (data.vacant) return element("p", { className: "hint", textContent: "There is no session here any more, only what is remembered beside it." });
  if (node) return tree(node, compared ?? undefined, unfolded);
  const text = data.text ?? `${data.beginning}…`;
  return element("pre", { className: data.kind, tabIndex: 0, textContent: text });
}

function about(data) {
  if (!data.stored) return [];
  const told = [bytes(data.size), ...data.steps];
  if (data.kind !== "json" && !data.hidden) told.push(data.kind === "hex" ? "not text" : "not JSON");
  if (data.expires_at !== null) told.push(`expires ${new Date(data.expires_at * 1000).toLocaleString()}`);
  const { version, updates, moved_to: to, moving_from: from } = data.beside;
  if (version !== undefined) told.push(`data version ${version}`);
  if (updates?.length) told.push(`remembers ${updates.length} update${updates.length > 1 ? "s" : ""}`);
  if (to !== undefined) told.push(link("moved to ", to));
  if (from !== undefined) told.push(link("moving from ", from));
  return told;
}

function link(text, key) {
  const button = element("button", { type: "button", textContent: text + visible(key, 40) });
  button.addEventListener("click", () => open(key));
  return button;
}

function note(before, data) {
  const size = (of) => (of.stored ? of.size : 0);
  const difference = size(data) - size(before);
  const what = !data.stored ? "deleted" : !before.stored ? "created" : `changed, ${difference >= 0 ? "+" : ""}${difference} bytes`;
  byId("changes").prepend(element("li", { textContent: `${new Date().toLocaleTimeString()} ${what}` }));
  if (byId("changes").children.length > MOST_CHANGES) byId("changes").lastChild.remove();
  byId("history").hidden = false;
}

// All of the session, also if it is a large one.
export async function whole() {
  if (shown.data.text === null) {
    const data = await ask("read", { key: shown.key, whole: true });
    shown.whole = true;
    show(data);
    watch();
  }
  return shown.data;
}

// Tells that something was changed, and offers the way back.
export function changed(data, text) {
  show(data);
  say(text, data.undo && (() => undo(data.undo)));
}

async function undo(name) {
  try {
    const data = await ask("undo", { undo: name });
    if (data.key !== shown.key) open(data.key);
    changed(data, "Put back as it was.");
  } catch (error) {
    say(error.status === 409 ? "Somebody changed this session since; it was left as it is now." : error.message);
  }
}

async function remove() {
  try {
    const data = await ask("delete", { key: shown.key, mark: shown.data.mark });
    changed(data, `Deleted ${visible(data.key, 40)}.`);
  } catch (error) {
    say(error.status === 409 ? "This session changed just now; look at it again before you delete it." : error.message);
  }
}

function unfoldAll() {
  let left = MOST_UNFOLDED;
  for (;;) {
    const folded = [...byId("tree").querySelectorAll("details:not([open])")].slice(0, left);
    if (!folded.length) return;
    for (const details of folded) {
      details.open = true;
      details.dispatchEvent(new Event("toggle"));
    }
    left -= folded.length;
    if (left <= 0) return say("That is enough for one page; unfold the rest one by one.");
  }
}

byId("delete").addEventListener("click", remove);
byId("unfold").addEventListener("click", unfoldAll);
byId("load").addEventListener("click", () => whole().catch((error) => say(error.message)));
