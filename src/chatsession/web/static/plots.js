// Small plots in SVG. Each has its figures in words, too, for those who cannot see it.

import { iso } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT] = [480, 216, 56, 40, 24, 12];

function drawn(name, attributes = {}, text = null) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  return made;
}

function frame(description) {
  const svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", class: "plot", "aria-label": description });
  svg.append(drawn("title", {}, description));
  return svg;
}

function nothingYet() {
  const svg = frame("There is nothing to show yet.");
  svg.append(drawn("text", { x: WIDTH / 2, y: HEIGHT / 2, "text-anchor": "middle" }, "nothing yet"));
  return svg;
}

// A round number that is not below the given one.
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value || 1));
  return [1, 2, 5, 10].map((step) => step * power).find((round) => round >= value);
}

const x = (share) => LEFT + share * (WIDTH - LEFT - RIGHT);
const y = (share) => HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP);
const clock = (seconds) => iso(seconds).slice(11);
const short = (value) => value.toLocaleString("en", { notation: value >= 10000 ? "compact" : "standard", maximumFractionDigits: 2 });

// The names of both axes, with their units.
function axes(svg, below, beside) {
  svg.append(drawn("text", { x: 0, y: 12, class: "axis" }, beside));
  svg.append(drawn("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 4, "text-anchor": "middle", class: "axis" }, below));
}

function scale(svg, top) {
  for (const share of [0, 0.5, 1]) {
    svg.append(drawn("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(share), y2: y(share), class: "grid" }));
    svg.append(drawn("text", { x: LEFT - 6, y: y(share) + 4, "text-anchor": "end" }, short(top * share)));
  }
}

function times(svg, from, to) {
  svg.append(drawn("text", { x: LEFT, y: HEIGHT - 20 }, clock(from)));
  svg.append(drawn("text", { x: WIDTH - RIGHT, y: HEIGHT - 20, "text-anchor": "end" }, clock(to)));
}

export function curve(values, unit) {
  if (!values.length) return nothingYet();
  const [from, to] = [values[0][0], values.at(-1)[0]];
  const top = ceiling(Math.max(...values.map(([, value]) => value)));
  const latest = values.at(-1)[1].toLocaleString("en");
  const svg = frame(`${latest} ${unit} at ${clock(to)}; ${values[0][1].toLocaleString("en")} at ${clock(from)}.`);
  scale(svg, top);
  axes(svg, "time", unit);
  times(svg, from, to);
  const place = ([at, value]) => `${x(to > from ? (at - from) / (to - from) : 1)},${y(value / top)}`;
  svg.append(drawn("polyline", { points: values.map(place).join(" "), class: "line" }));
  const [cx, cy] = place(values.at(-1)).split(",");
  svg.append(drawn("circle", { cx, cy, r: 3.5, class: "dot" }));
  return svg;
}

export function bars(values, unit) {
  if (!values.length) return nothingYet();
  const top = ceiling(Math.max(...values.map(([, value]) => value)));
  const svg = frame(values.filter(([, value]) => value).map(([name, value]) => `${name}: ${value.toLocaleString("en")} ${unit}`).join("; "));
  scale(svg, top);
  axes(svg, "size of a session", unit);
  const width = 1 / values.length;
  const every = Math.ceil(values.length / 5);
  values.forEach(([name, value], i) => {
    const height = value ? Math.max(y(0) - y(value / top), 1.5) : 0;
    const bar = drawn("rect", { x: x(i * width) + 1, y: y(0) - height, width: x(width) - x(0) - 2, height, class: "bar" });
    bar.append(drawn("title", {}, `${name}: ${value.toLocaleString("en")} ${unit}`));
    svg.append(bar);
    if (i % every === 0) svg.append(drawn("text", { x: x((i + 0.5) * width), y: HEIGHT - 20, "text-anchor": "middle" }, name));
  });
  return svg;
}

function legend(svg) {
  ["read", "commit"].forEach((kind, i) => {
    const left = WIDTH - RIGHT - 130 + 60 * i;
    svg.append(drawn("circle", { cx: left, cy: 8, r: kind === "commit" ? 4 : 2, class: kind }));
    svg.append(drawn("text", { x: left + 8, y: 12 }, kind));
  });
}

const middle = (sorted) => sorted[Math.floor(sorted.length / 2)];

// Latencies, as for `points`, in words.
export function words(values, unit) {
  const told = ["read", "commit"].flatMap((kind) => {
    const sorted = values.filter(([, of]) => of === kind).map(([, , value]) => value).sort((a, b) => a - b);
    return sorted.length ? [`${kind}: median ${middle(sorted).toFixed(2)} ${unit}, most ${sorted.at(-1).toFixed(2)} ${unit}`] : [];
  });
  return told.join("; ");
}

// Latencies: [time, "read" or "commit", milliseconds].
export function points(values, unit) {
  if (!values.length) return nothingYet();
  const [from, to] = [values[0][0], values.at(-1)[0]];
  const top = ceiling(Math.max(...values.map(([, , value]) => value)));
  const svg = frame(words(values, unit));
  scale(svg, top);
  axes(svg, "time", unit);
  legend(svg);
  times(svg, from, to);
  for (const [at, kind, value] of values) {
    const place = { cx: x(to > from ? (at - from) / (to - from) : 1), cy: y(value / top) };
    svg.append(drawn("circle", { ...place, r: kind === "commit" ? 4 : 2, class: kind }));
  }
  return svg;
}
