// The state comes whole with every event; the page keeps only which chat is shown.

const byId = (id) => document.getElementById(id);
const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

let state = null;
let chosen = 0;
const seen = new Map(); // what was shown of each session, so that changes stand out

const act = (what) =>
  fetch("/do", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(what) });

function show() {
  const room = state.rooms[chosen];
  byId("bot").textContent = `The bot: ${state.bot}`;
  byId("again").disabled = !state.again;
  byId("upgrade").hidden = !room.group;
  fill(byId("rooms"), state.rooms.map((other) => other.name), (name, i) => {
    const button = element("button", { type: "button", textContent: name });
    button.addEventListener("click", () => {
      chosen = i;
      show();
    });
    return button;
  });
  [...byId("rooms").children].forEach((button, i) => button.setAttribute("aria-pressed", i === chosen));
  fill(byId("who"), room.people, (name) => element("option", { textContent: name }));
  fill(byId("messages"), room.messages, message);
  fill(byId("sessions"), room.sessions, session);
}

// Makes the children anew only if there is something new to see, so that nobody loses their place.
function fill(parent, items, make) {
  const now = JSON.stringify(items);
  if (parent.shown === now) return;
  parent.shown = now;
  parent.replaceChildren(...items.map(make));
  parent.scrollTop = parent.scrollHeight;
}

function message({ who, text, kind }) {
  return element("li", { className: kind }, element("b", {}, who), " ", element("bdi", {}, text));
}

function session([key, stored]) {
  const changed = seen.has(key) && seen.get(key) !== stored;
  seen.set(key, stored);
  return element(
    "figure",
    { className: changed ? "changed" : "" },
    element("figcaption", {}, `Key ${key}`),
    element("pre", { textContent: stored === null ? "nothing is stored" : pretty(stored) }),
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
for (const what of ["kill", "again", "upgrade"]) byId(what).addEventListener("click", () => act({ do: what }));

const events = new EventSource("/events");
events.onmessage = (event) => {
  state = JSON.parse(event.data);
  show();
};
events.onerror = () => {
  byId("bot").textContent = "The demo has ended.";
};
