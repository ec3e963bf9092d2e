// One session: shown, watched, copied, deleted.

import { ask, follow } from "./api.js";
import { differences, inWords } from "./diff.js";
import { button, byId, bytes, counted, element, iso, now, visible } from "./dom.js";
import { parse } from "./json.js";
import { say, trouble } from "./toast.js";
import { tree } from "./tree.js";

const LONGEST_IN_ADDRESS = 2000;
const MOST_CHANGES = 50;
const MOST_UNFOLDED = 2000;
const MOST_TOLD = 5;

// What is shown: `data` as the server told it, `node` its JSON.
export const shown = { key: null, data: null, node: null, readOnly: false, wait: 0, expiring: true, whole: false };

let watching = new AbortController();
let unfolded = new Map();
const listeners = [];

// Calls the listener with every session that is shown, also when it is the same one changed.
export const onShown = (listener) => listeners.push(listener);

// Shows a session, or none (null); `remember` it for the browser's Back.
export function open(key, remember = true) {
  if (remember && key !== shown.key) history.pushState({ key }, "", address(key));
  Object.assign(shown, { key, data: null, node: null, whole: false });
  unfolded = new Map();
  byId("seen-changes").replaceChildren();
  byId("expiry").hidden = true;
  byId("history").hidden = true;
  byId("nothing").hidden = key !== null;
  byId("session").hidden = true;
  byId("key").textContent = key === null ? "" : visible(key);
  watch();
}

const address = (key) => (key !== null && key.length <= LONGEST_IN_ADDRESS ? `#${encodeURIComponent(key)}` : "#");

export function keyInAddress() {
  try {
    return history.state?.key ?? (decodeURIComponent(location.hash.slice(1)) || null);
  } catch {
    return null;
  }
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
  const drawn = same && before.text === data.text; // what was unfolded in it stays so
  const node = drawn ? shown.node : data.kind === "json" && data.text ? parsed(data.text) : null;
  const compared = before && !same ? shown.node : undefined;
  if (before && !same) note(before, data, shown.node, node);
  Object.assign(shown, { data, node });
  byId("session").hidden = false;
  byId("about").replaceChildren(...about(data).map((text) => element("li", {}, text)));
  byId("problem").textContent = data.problem ?? "";
  byId("problem").hidden = !data.problem;
  byId("edit").textContent = data.stored && !data.vacant ? "Edit" : "Create";
  byId("edit").hidden = shown.readOnly || data.hidden;
  byId("delete").hidden = shown.readOnly || !data.stored;
  byId("expire").hidden = shown.readOnly || !shown.expiring || !data.stored;
  byId("copy").hidden = byId("download").hidden = !data.stored || data.hidden || data.vacant;
  byId("unfold").hidden = !node?.entries;
  byId("load").hidden = !data.stored || data.text !== null;
  if (!drawn) byId("tree").replaceChildren(content(data, node, compared));
  for (const listener of listeners) listener(data);
  if (!before) byId("session").scrollIntoView({ block: "nearest" }); // on a phone it is below the list
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
  if (data.vacant) return element("p", { className: "hint", textContent: "The session was deleted; only what is remembered beside it is left." });
  if (node) return tree(node, compared ?? undefined, unfolded);
  const text = data.text ?? `${data.beginning}…`;
  return element("pre", { className: data.kind, tabIndex: 0, textContent: text });
}

function about(data) {
  if (!data.stored) return [];
  const told = [bytes(data.size), ...data.steps];
  if (data.kind !== "json" && !data.hidden) told.push(data.kind === "hex" ? "not text" : "not JSON");
  if (data.expires_at !== null) told.push(`expires ${iso(data.expires_at)}`);
  const { version, updates, moved_to: to, moving_from: from } = data.beside;
  if (version !== undefined) told.push(`data version ${version}`);
  if (updates?.length) told.push(`remembers ${counted(updates.length, "update")}`);
  if (to !== undefined) told.push(link("moved to ", to));
  if (from !== undefined) told.push(link("moving from ", from));
  return told;
}

const link = (text, key) => button(text + visible(key, 40), () => open(key));

function note(before, data, node, after) {
  byId("seen-changes").prepend(element("li", { textContent: `${now()} ${whatChanged(before, data, node, after)}` }));
  if (byId("seen-changes").children.length > MOST_CHANGES) byId("seen-changes").lastChild.remove();
  byId("history").hidden = false;
}

function whatChanged(before, data, node, after) {
  if (!data.stored) return "deleted";
  if (!before.stored) return "created";
  if (before.text !== null && before.text === data.text) return data.expires_at === before.expires_at ? "written, the same data" : "expiry changed";
  if (!node || !after) return `changed: ${bytes(before.size)} → ${bytes(data.size)}`;
  const fields = differences(node, after);
  const told = fields.slice(0, MOST_TOLD).map(inWords).join("; ");
  return `changed: ${told}${fields.length > MOST_TOLD ? `; and ${fields.length - MOST_TOLD} more` : ""}`;
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

export async function undo(name) {
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

async function copy() {
  const { text } = await whole();
  await navigator.clipboard.writeText(text);
  say("Copied.");
}

async function download() {
  const { key, kind, text } = await whole();
  const content = kind === "hex" ? Uint8Array.from(text.split(/\s+/).filter(Boolean), (digits) => parseInt(digits, 16)) : text;
  const href = URL.createObjectURL(new Blob([content]));
  const name = key.replace(/[^\w.-]+/g, "_").replace(/^\.+/, "").slice(0, 100);
  element("a", { href, download: `${name}${{ json: ".json", hex: ".bin" }[kind] ?? ".txt"}` }).click();
  URL.revokeObjectURL(href);
}

function showExpiry(open) {
  byId("expiry").hidden = !open;
  byId("expire").setAttribute("aria-expanded", open);
  byId(open ? "lifetime" : "expire").focus();
}

async function expire(seconds) {
  try {
    const data = await ask("expire", { key: shown.key, mark: shown.data.mark, seconds });
    showExpiry(false);
    changed(data, seconds === null ? "Never expires now." : `Expires ${iso(data.expires_at)}.`);
  } catch (error) {
    say(error.status === 409 ? "This session changed just now; look at it again." : error.message);
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
for (const [id, action] of Object.entries({ load: whole, copy, download })) {
  byId(id).addEventListener("click", () => action().catch((error) => say(error.message)));
}
byId("expire").addEventListener("click", () => showExpiry(byId("expiry").hidden));
byId("keep-expiry").addEventListener("click", () => showExpiry(false));
byId("never").addEventListener("click", () => expire(null));
byId("expiry").addEventListener("submit", (event) => {
  event.preventDefault();
  expire(Number(byId("lifetime").value) * Number(byId("unit").value));
});
