// Elements and text, and no HTML: whatever a session holds stays text.

export const byId = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
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

const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];

export function bytes(count) {
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${unit ? count.toFixed(1) : count} ${unit || count !== 1 ? units[unit] : "byte"}`;
}

export const time = (seconds) => new Date(seconds * 1000).toLocaleTimeString();
