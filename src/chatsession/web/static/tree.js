// A session's data to be folded and unfolded; what is folded is not in the page yet.

import { element, visible } from "./dom.js";

const MOST_AT_ONCE = 200;
const UNFOLDED_ENTRIES = 50;
const UNFOLDED_DEPTH = 3;
const LONGEST_TEXT = 500;

// Shows a node; `before` is what stood there until now, so that changes stand out; `unfolded` has the paths that a
// person has unfolded (true) or folded (false).
export function tree(node, before, unfolded) {
  return item(null, node, before, { unfolded, path: "$", depth: 0 });
}

function item(name, node, before, at) {
  if (!node.entries) {
    const changed = before !== undefined && before?.source !== node.source;
    return element("div", { className: changed ? "leaf changed" : "leaf" }, ...label(name), leaf(node));
  }
  const details = element("details", { className: before === null ? "changed" : "" });
  const kind = node.kind === "array" ? `[${node.entries.length}]` : `{${node.entries.length}}`;
  details.append(element("summary", {}, ...label(name), element("span", { className: "count", textContent: kind })));
  let filled = false;
  const fill = () => {
    if (filled) return;
    filled = true;
    more(details, node, before, at, 0);
  };
  details.addEventListener("toggle", () => {
    if (details.open) fill();
    if (filled) at.unfolded.set(at.path, details.open);
  });
  const wanted = at.unfolded.get(at.path) ?? (at.depth < UNFOLDED_DEPTH && node.entries.length <= UNFOLDED_ENTRIES);
  if (wanted || at.depth === 0) {
    fill();
    details.open = true;
  }
  return details;
}

function more(details, node, before, at, from) {
  const old = before?.entries && new Map(before.entries);
  for (const [name, child] of node.entries.slice(from, from + MOST_AT_ONCE)) {
    const was = before === undefined ? undefined : (old?.get(name) ?? null);
    const below = { ...at, path: `${at.path}/${name}`, depth: at.depth + 1 };
    details.append(item(name, child, was, below));
  }
  const left = node.entries.length - from - MOST_AT_ONCE;
  if (left <= 0) return;
  const button = element("button", { type: "button", className: "more", textContent: `${left} more…` });
  button.addEventListener("click", () => {
    button.remove();
    more(details, node, before, at, from + MOST_AT_ONCE);
  });
  details.append(button);
}

function label(name) {
  if (name === null) return [];
  return [element("bdi", { className: typeof name === "number" ? "index" : "name", textContent: visible(String(name)) }), ": "];
}

function leaf(node) {
  if (node.kind !== "string") return element("span", { className: node.kind, textContent: node.source });
  const text = JSON.parse(node.source);
  const shown = (most) => `“${text.length > most ? visible(text, most) : text.split("\n").map((line) => visible(line, most)).join("\n")}”`;
  const span = element("bdi", { className: "string", textContent: shown(LONGEST_TEXT) });
  if (text.length <= LONGEST_TEXT) return span;
  const button = element("button", { type: "button", className: "more", textContent: "all of it" });
  button.addEventListener("click", () => {
    span.textContent = shown(text.length);
    button.remove();
  });
  return element("span", {}, span, " ", button);
}
