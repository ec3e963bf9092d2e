// Locks, problems, and the changes that can be undone: each a table in a view of its own.

import { ask, stream } from "./api.js";
import { button, byId, counted, duration, fill, iso, visible } from "./dom.js";
import { shown, undo } from "./session.js";
import { say } from "./toast.js";

const MILLISECONDS_BETWEEN_LOOKS = 1000;
const MOST_PROBLEMS = 1000;
let looking = new AbortController();

// Shows a list until another view is shown; `open` opens a session.
export function start(name, open) {
  stop();
  looking = new AbortController();
  views[name](looking.signal, (key) => button(visible(key, 60), () => open(key), { className: "link" }));
}

export const stop = () => looking.abort();

const views = { locks, problems, changes };

async function locks(signal, link) {
  let before = "";
  while (!signal.aborted) {
    const told = await asked("locks", "locked", signal);
    if (signal.aborted || told === undefined) return;
    if (told === null) {
      byId("locked").textContent = "This storage does not list its locks; they end by themselves.";
      return;
    }
    const current = JSON.stringify(told.locks);
    if (current !== before) {
      byId("locked").textContent = `${counted(told.locks.length, "session")} locked now.`;
      fill(byId("lock-list"), told.locks.map((lock) => lockRow(lock, told.now, link)));
    }
    before = current;
    await new Promise((resolve) => setTimeout(resolve, MILLISECONDS_BETWEEN_LOOKS));
  }
}

function lockRow(lock, now, link) {
  const holder = `${lock.holder ?? "not known"}${lock.dead ? " (dead)" : ""}`;
  const since = lock.since === null ? "not known" : iso(lock.since);
  const action = shown.readOnly ? "" : button("Break…", () => breakLock(lock), { className: "danger" });
  return [link(lock.key), holder, since, `in ${duration(lock.until - now)}`, String(lock.waiters), action];
}

async function breakLock(lock) {
  if (!confirm(`Break the lock of ${visible(lock.key, 60)}? The update that holds it fails and writes nothing.`)) return;
  try {
    const { broken } = await ask("unlock", { key: lock.key, token: lock.token });
    say(broken ? "The lock is free." : "It was not locked any more, or by somebody else; nothing was done.");
  } catch (error) {
    say(error.message);
  }
}

async function problems(signal, link) {
  const rows = [];
  byId("looked").textContent = "Looking…";
  fill(byId("problem-list"), rows);
  await stream("problems", {}, signal, (name, data) => {
    if (signal.aborted) return;
    if (name === "trouble") byId("looked").textContent = data.error;
    if (name === "done") byId("looked").textContent = summary(data.seen, rows.length);
    if (name !== "problems") return;
    byId("looked").textContent = `Looking… ${counted(data.seen, "session")} so far`;
    rows.push(...data.found.slice(0, MOST_PROBLEMS - rows.length).map(({ key, trouble, why }) => [link(key), trouble, why]));
    if (data.found.length) fill(byId("problem-list"), rows);
  }).catch((error) => {
    if (!signal.aborted) byId("looked").textContent = error.message;
  });
}

function summary(seen, found) {
  if (!found) return `Looked at ${counted(seen, "session")}: all is well.`;
  return `Looked at ${counted(seen, "session")}: ${counted(found, "problem")}${found === MOST_PROBLEMS ? " and more" : ""}.`;
}

async function changes(signal, link) {
  const made = await asked("changes", "changed", signal);
  if (signal.aborted || made === undefined) return;
  byId("changed").textContent = made.length ? `${counted(made.length, "change")} can be undone, the newest first.` : "Nothing was changed here yet.";
  const again = () => changes(signal, link);
  const row = ({ undo: name, key, what, at }) => [iso(at), what, link(key), button("Undo", () => undo(name).then(again))];
  fill(byId("change-list"), made.map(row));
}

// The answer; undefined if there is none, which the paragraph then says.
async function asked(name, paragraph, signal) {
  try {
    return await ask(name);
  } catch (error) {
    if (!signal.aborted) byId(paragraph).textContent = error.message;
    return undefined;
  }
}
