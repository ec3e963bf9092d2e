// JSON as it is written: numbers with all their digits, names in their order, also those that come twice.
// A node is {kind, source} or, for an object or array, {kind, entries: [[name, node], …]}.

const TOKEN = /[ \t\n\r]*(?:([[\]{},:"])|(-?\d[\d.eE+-]*|true|false|null))/y;

export function parse(text) {
  const root = { kind: "array", entries: [] };
  const open = [root]; // a list of its own, because a session may be nested more deeply than calls can be
  let name = null;
  TOKEN.lastIndex = 0;
  while (open.length > 1 || !root.entries.length) {
    const found = TOKEN.exec(text);
    if (!found) throw new SyntaxError("not JSON");
    const [, mark, other] = found;
    const inside = open[open.length - 1];
    if (mark === "]" || mark === "}") {
      open.pop();
    } else if (mark !== "," && mark !== ":") {
      const string = mark === '"' ? quoted(text) : null;
      if (string !== null && inside.kind === "object" && name === null) {
        name = JSON.parse(string);
        continue;
      }
      const node = made(mark, string, other);
      inside.entries.push([inside.kind === "object" ? name : inside.entries.length, node]);
      name = null;
      if (node.entries) open.push(node);
    }
  }
  return root.entries[0][1];
}

// The string whose first quote was just read. By hand: a pattern for it runs out of stack on a long one.
function quoted(text) {
  const start = TOKEN.lastIndex - 1;
  for (let end = text.indexOf('"', start + 1); end >= 0; end = text.indexOf('"', end + 1)) {
    let slashes = 0;
    while (text[end - 1 - slashes] === "\\") slashes += 1;
    if (slashes % 2) continue;
    TOKEN.lastIndex = end + 1;
    return text.slice(start, end + 1);
  }
  throw new SyntaxError("not JSON");
}

function made(mark, string, other) {
  if (string !== null) return { kind: "string", source: string };
  if (mark) return { kind: mark === "[" ? "array" : "object", entries: [] };
  return { kind: other === "null" ? "null" : other === "true" || other === "false" ? "boolean" : "number", source: other };
}
