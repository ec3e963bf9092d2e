// The fields in which two trees of JSON differ.

import { visible } from "./dom.js";

const MOST = 200;

// Gives [path, before, after]; a node that is not there is undefined.
export function differences(before, after) {
  const found = [];
  const left = [[[], before, after]]; // a list of its own, because a session may be nested deeply
  while (left.length && found.length < MOST) {
    const [path, one, other] = left.pop();
    if (one?.entries && one.kind === other?.kind) left.push(...children(path, one, other).reverse());
    else if (one?.source !== other?.source || one?.kind !== other?.kind) found.push([path.join(".") || "(all of it)", one, other]);
  }
  return found;
}

function children(path, one, other) {
  const [ones, others] = [new Map(one.entries), new Map(other.entries)];
  const names = new Set([...ones.keys(), ...others.keys()]);
  return [...names].map((name) => [[...path, name], ones.get(name), others.get(name)]);
}

// A node on one line.
export function brief(node) {
  if (node === undefined) return "(not there)";
  if (!node.entries) return visible(node.source, 80);
  return node.kind === "array" ? `[${node.entries.length}]` : `{${node.entries.length}}`;
}

export function inWords([path, before, after]) {
  const name = visible(path, 80);
  if (before === undefined) return `${name} added: ${brief(after)}`;
  if (after === undefined) return `${name} removed: ${brief(before)}`;
  return `${name}: ${brief(before)} → ${brief(after)}`;
}
