// The state comes whole with every event; the page keeps only which chat is shown.

const byId = (id) => document.getElementById(id);
const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

let state = null;
let chosen = null; // the id of the room that is shown
const seen = new Map(); // what was shown of each session, so that changes stand out

const act = (what) =>
  fetch("/do", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(what) });

function show() {
  const room = state.rooms.find(({ id }) => id === chosen) ?? state.rooms[0];
  chosen = room.id;
  byId("status").className = state.running ? "running" : "";
  setText(byId("status"), `The bot: ${state.status}`);
  byId("kill").disabled = byId("rush").disabled = !state.running;
  byId("again").disabled = !state.again;
  byId("upgrade-item").hidden = !room.group;
  byId("look").hidden = !state.command;
  setText(byId("command"), state.command);
  fill(byId("rooms"), state.rooms.map(({ id, name }) => [id, name]), roomButton);
  [...byId("rooms").children].forEach((button) => button.setAttribute("aria-pressed", button.value === `${chosen}`));
  byId("from").hidden = room.people.length === 1;
  fill(byId("who"), room.people, (name) => element("option", { textContent: name }));
  const lines = byId("lines");
  const atEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 40;
  fill(lines, room.lines, line);
  if (atEnd) lines.scrollTop = lines.scrollHeight;
  fill(byId("sessions"), room.sessions, session);
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// Only what is new is made anew, so that a screen reader says that alone, and nobody loses their place.
function fill(parent, items, make) {
  items.forEach((item, i) => {
    const now = JSON.stringify(item);
    const old = parent.children[i];
    if (old?.shown === now) return;
    const made = Object.assign(make(item), { shown: now });
    old ? old.replaceWith(made) : parent.append(made);
  });
  while (parent.children.length > items.length) parent.lastChild.remove();
}

function roomButton([id, name]) {
  const button = element("button", { type: "button", value: `${id}`, textContent: name });
  button.addEventListener("click", () => {
    chosen = id;
    show();
    byId("lines").scrollTop = byId("lines").scrollHeight;
  });
  return button;
}

function line({ kind, who, text, waits, message, buttons }) {
  const made = element("li", { className: kind });
  if (who) made.append(element("b", {}, who));
  made.append(element("bdi", {}, text));
  if (kind === "own") made.append(mark(waits));
  if (buttons.length) made.append(element("div", { className: "buttons" }, ...buttons.map((text, button) => {
    const made = element("button", { type: "button", textContent: text });
    made.addEventListener("click", () => act({ do: "press", room: chosen, who: byId("who").value, message, button }));
    return made;
  })));
  return made;
}

function mark(waits) {
  const made = element("span", { className: "mark", textContent: waits ? "…" : "✓" });
  made.title = waits ? "The bot has not confirmed this update" : "The bot has confirmed this update";
  made.setAttribute("role", "img");
  made.setAttribute("aria-label", waits ? "not confirmed" : "confirmed");
  return made;
}

function session([key, stored]) {
  const changed = seen.has(key) && seen.get(key) !== stored;
  seen.set(key, stored);
  return element(
    "figure",
    { className: changed ? "changed" : "" },
    element("figcaption", {}, `Key ${key}`),
    element("pre", { textContent: stored === null ? "nothing" : pretty(stored) }),
  );
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

const send = (text) => act({ do: "send", room: chosen, who: byId("who").value, text });

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("text").value;
  if (text) send(text);
  byId("text").value = "";
});
byId("pizza").addEventListener("click", () => send("🍕"));
byId("rush").addEventListener("click", () => act({ do: "rush", room: chosen }));
for (const what of ["kill", "again", "upgrade"]) byId(what).addEventListener("click", () => act({ do: what }));

const events = new EventSource("/events");
events.onmessage = (event) => {
  state = JSON.parse(event.data);
  show();
};
events.onerror = () => {
  byId("status").className = "";
  setText(byId("status"), "The demo has ended.");
};
