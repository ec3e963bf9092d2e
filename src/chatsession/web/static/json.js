// JSON as it is written: numbers with all their digits, names in their order, also those that come twice.
// A node is {kind, source} or, for an object or array, {kind, entries: [[name, node], …]}.

const TOKEN = /[ \t\n\r]*(?:([[\]{},:])|("(?:[^"\\]|\\[^])*")|(-?\d[\d.eE+-]*|true|false|null))/y;

export function parse(text) {
  TOKEN.lastIndex = 0;
  const root = { kind: "array", entries: [] };
  const open = [root]; // a list of its own, because a session may be nested more deeply than calls can be
  let name = null;
  while (open.length > 1 || !root.entries.length) {
    const found = TOKEN.exec(text);
    if (!found) throw new SyntaxError("not JSON");
    const [, mark, string, other] = found;
    const inside = open[open.length - 1];
    if (mark === "]" || mark === "}") {
      open.pop();
    } else if (mark === "," || mark === ":") {
      continue;
    } else if (string !== undefined && inside.kind === "object" && name === null) {
      name = JSON.parse(string);
    } else {
      const node = made(mark, string, other);
      inside.entries.push([inside.kind === "object" ? name : inside.entries.length, node]);
      name = null;
      if (node.entries) open.push(node);
    }
  }
  return root.entries[0][1];
}

function made(mark, string, other) {
  if (mark) return { kind: mark === "[" ? "array" : "object", entries: [] };
  if (string !== undefined) return { kind: "string", source: string };
  return { kind: other === "null" ? "null" : other === "true" || other === "false" ? "boolean" : "number", source: other };
}
