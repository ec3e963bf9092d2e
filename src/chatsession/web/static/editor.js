// Changing a session as text. What is stored is overwritten only if it is what the editor began with.

import { ask } from "./api.js";
import { brief, differences } from "./diff.js";
import { byId, element, fill, visible } from "./dom.js";
import { parse } from "./json.js";
import { changed, onShown, show, shown, whole } from "./session.js";
import { say } from "./toast.js";

const MOST_LINES = 5000;
const MILLISECONDS_UNTIL_TOLD = 400;
let base = null; // the session as it was when its text was taken
let saving = false;
let stored = ""; // what a conflict was with

export const editing = () => base !== null;
export const unsaved = () => base !== null && byId("draft").value !== (base.text ?? "");

async function edit() {
  try {
    begin(await whole());
  } catch (error) {
    say(error.message);
  }
}

function begin(data) {
  base = data;
  byId("draft").value = data.text ?? "";
  byId("kind").value = data.stored && !data.vacant ? data.kind : "json";
  layout(true);
  byId("draft").focus();
  byId("draft").setSelectionRange(0, 0);
}

export function end() {
  base = null;
  byId("draft").value = "";
  layout(false);
}

function layout(open) {
  byId("editor").hidden = !open;
  byId("tree").hidden = open;
  byId("tools").hidden = open;
  byId("conflict").hidden = true;
  byId("newer").hidden = true;
  byId("save").hidden = false;
  byId("refused").textContent = "";
}

async function save() {
  if (saving) return;
  saving = true;
  byId("refused").textContent = "";
  const wait = shown.wait;
  const waiting = setTimeout(() => {
    byId("waiting").textContent = `The bot is at work on this session. Saving waits for it, ${wait} s at most…`;
  }, MILLISECONDS_UNTIL_TOLD);
  try {
    const body = { key: base.key, mark: base.mark, text: byId("draft").value, kind: byId("kind").value };
    const data = await ask("write", body);
    end();
    changed(data, "Saved.");
    byId("edit").focus();
  } catch (error) {
    if (error.status === 409) await conflict();
    else byId("refused").textContent = error.message;
  } finally {
    clearTimeout(waiting);
    byId("waiting").textContent = "";
    saving = false;
  }
}

// Shows both; what is stored now is what “Store mine instead” then overwrites, and nothing else.
async function conflict() {
  const theirs = await ask("read", { key: base.key, whole: true });
  base = { ...theirs, text: base.text };
  stored = theirs.stored ? theirs.text : "(nothing: it was deleted)";
  compare();
  byId("conflict").hidden = false;
  byId("newer").hidden = true;
  byId("save").hidden = true;
  byId("keep-theirs").focus();
  show(theirs);
}

// The fields that differ, and both texts with those lines marked that the other does not have.
function compare() {
  fill(byId("differences"), fields(stored, byId("draft").value));
  const [theirs, mine] = [stored.split("\n"), byId("draft").value.split("\n")];
  byId("theirs").replaceChildren(...marked(theirs, new Set(mine)));
  byId("mine").replaceChildren(...marked(mine, new Set(theirs)));
}

function fields(one, other) {
  try {
    return differences(parse(one), parse(other)).map(([path, before, after]) => [visible(path), brief(before), brief(after)]);
  } catch {
    return []; // one of them is not JSON
  }
}

function marked(lines, others) {
  if (lines.length > MOST_LINES) return [lines.join("\n")];
  return lines.flatMap((line) => [others.has(line) ? line : element("mark", {}, line), "\n"]);
}

byId("edit").addEventListener("click", edit);
byId("cancel").addEventListener("click", () => {
  end();
  byId("edit").focus();
});
byId("keep-theirs").addEventListener("click", () => {
  end();
  say("What was stored is kept.");
});
byId("keep-mine").addEventListener("click", save);
byId("draft").addEventListener("input", () => {
  if (!byId("conflict").hidden) compare();
});
byId("editor").addEventListener("submit", (event) => {
  event.preventDefault();
  save();
});
byId("editor").addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !unsaved()) end();
  if (event.key.toLowerCase() === "s" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    save();
  }
});
onShown((data) => {
  byId("newer").hidden = base === null || data.mark === base.mark || !byId("conflict").hidden;
});
addEventListener("beforeunload", (event) => {
  if (unsaved()) event.preventDefault();
});
