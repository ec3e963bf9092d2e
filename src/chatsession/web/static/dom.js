// Elements and text, and no HTML: whatever a session holds stays text.

export const byId = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

export function button(text, onClick, properties = {}) {
  const made = element("button", { type: "button", textContent: text, ...properties });
  made.addEventListener("click", onClick);
  return made;
}

// Fills the body of a table; each row is a list of texts and elements. An empty table is not shown.
export function fill(table, rows) {
  const cells = (row) => row.map((cell) => element("td", {}, cell));
  table.tBodies[0].replaceChildren(...rows.map((row) => element("tr", {}, ...cells(row))));
  table.hidden = !rows.length;
}

// Control characters, and those that would turn the order of what stands around them.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

function named(character) {
  const code = character.codePointAt(0);
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  return code === 0x7f ? "\u2421" : `\\u${code.toString(16).padStart(4, "0")}`;
}

// A key as people can read it: on one line, nothing unseen, not too long.
export function visible(key, most = 200) {
  const shown = key.length > most ? key.slice(0, most) : key;
  return shown.replace(UNSEEN, named) + (key.length > most ? `… (${key.length} characters)` : "");
}

// A number with its word: 1 session, 2,000 sessions.
export const counted = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

const UNITS = ["B", "KiB", "MiB", "GiB"];

// As the command line writes sizes.
export function bytes(count) {
  let unit = 0;
  while (count >= 1024 && unit < UNITS.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${unit ? count.toFixed(1) : Math.round(count)} ${UNITS[unit]}`;
}

const TIMES = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

// As the command line writes durations.
export function duration(seconds) {
  const [length, unit] = TIMES.find(([length]) => seconds >= length) ?? [0.001, "ms"];
  return `${Math.round(Math.max(seconds, 0) / length)} ${unit}`;
}

// A moment by this machine's clock, as in 2026-11-29 09:31:05.
export function iso(seconds) {
  const at = new Date(seconds * 1000);
  if (Number.isNaN(at.getTime())) return "beyond all calendars";
  const local = new Date(at.getTime() - at.getTimezoneOffset() * 60000);
  return local.toISOString().slice(0, 19).replace("T", " ");
}

export const now = () => iso(Date.now() / 1000);
