// How many sessions there are, how large, and how fast the storage is.

import { follow } from "./api.js";
import { button, byId, bytes, element, visible } from "./dom.js";
import { bars, curve, points, words } from "./plots.js";
import { trouble } from "./toast.js";

const MOST_LATENCIES = 600;
let watching = new AbortController();
let latencies = [];

export function start(openSession) {
  stop();
  watching = new AbortController();
  latencies = [];
  const { signal } = watching;
  follow("statistics", {}, signal, (name, data) => {
    if (signal.aborted) return;
    trouble(name === "figures" ? data.problem : data.error);
    if (name === "figures") show(data, openSession);
  });
}

export const stop = () => watching.abort();

function show(data, openSession) {
  latencies = [...latencies, ...data.latencies].slice(-MOST_LATENCIES);
  const { counting, sizes } = data;
  byId("counting").textContent = counting === null ? "Counted just now; the next count follows." : `Counting… ${counting.toLocaleString("en")} so far`;
  if (sizes) showSizes(sizes, openSession);
  byId("counts").replaceChildren(curve(data.counts, "sessions"));
  byId("latencies").replaceChildren(points(latencies, "ms"));
  byId("latencies-words").textContent = words(latencies, "ms");
}

function showSizes(sizes, openSession) {
  const mean = sizes.count ? bytes(Math.round(sizes.bytes / sizes.count)) : "–";
  const rows = [
    ["Sessions", sizes.count.toLocaleString("en")],
    ["Together", bytes(sizes.bytes)],
    ["On average", mean],
    ["Will expire", sizes.expiring.toLocaleString("en")],
  ];
  byId("figures").replaceChildren(...rows.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  byId("histogram").replaceChildren(bars(classes(sizes.histogram), "sessions"));
  byId("largest").replaceChildren(
    ...sizes.largest.map(([size, key]) => {
      return element("li", {}, button(visible(key, 40), () => openSession(key)), ` ${bytes(size)}`);
    }),
  );
}

// From exponents to the names of size classes, with those between that are empty.
function classes(histogram) {
  if (!histogram.length) return [];
  const counts = new Map(histogram);
  const [lowest, highest] = [histogram[0][0], histogram.at(-1)[0]];
  return Array.from({ length: highest - lowest + 1 }, (_, i) => [`≤ ${bytes(2 ** (lowest + i))}`, counts.get(lowest + i) ?? 0]);
}
