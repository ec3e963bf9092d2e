// One message at the bottom, with a way back; it stays until the next one, so that nobody has to hurry.

import { byId } from "./dom.js";

let wayBack = null;

export function say(text, undo = null) {
  wayBack = undo;
  byId("toast-text").textContent = text;
  byId("toast-undo").hidden = !undo;
  byId("toast").hidden = false;
}

byId("toast-undo").addEventListener("click", () => {
  const undo = wayBack;
  byId("toast").hidden = true;
  undo?.();
});

export function trouble(text) {
  byId("trouble").textContent = text;
  byId("trouble").hidden = !text;
}
