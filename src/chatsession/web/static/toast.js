// One message at the bottom, with a way back; it stays until it is closed or the next one comes.

import { byId } from "./dom.js";

let wayBack = null;

export function say(text, undo = null) {
  wayBack = undo;
  byId("toast-text").textContent = text;
  byId("toast-undo").hidden = !undo;
  byId("toast-close").hidden = false;
  byId("toast").classList.remove("closed");
}

function close() {
  byId("toast").classList.add("closed");
  byId("toast-text").textContent = "";
  byId("toast-undo").hidden = true;
  byId("toast-close").hidden = true;
}

byId("toast-undo").addEventListener("click", () => {
  const undo = wayBack;
  close();
  undo?.();
});
byId("toast-close").addEventListener("click", close);
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.target.matches("input, textarea, select")) close();
});

export function trouble(text) {
  byId("trouble").textContent = text;
  byId("trouble").hidden = !text;
}
