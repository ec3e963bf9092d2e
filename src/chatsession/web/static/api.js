// Every call is a POST of JSON, which no foreign page can make.

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const request = (name, body, signal) =>
  fetch(`/api/${name}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });

async function refusal(response) {
  if (response.status === 401) return new Refused(401, "This page is not let in any more: the inspector was started anew.");
  const type = response.headers.get("content-type") ?? "";
  const message = type.includes("json") ? (await response.json()).error : await response.text();
  return new Refused(response.status, message);
}

export async function ask(name, body = {}) {
  let response;
  try {
    response = await request(name, body);
  } catch {
    throw new Refused(0, "The inspector does not answer; was it ended?");
  }
  if (!response.ok) throw await refusal(response);
  return response.json();
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// Server-sent events of a POST, until they end or the signal is aborted.
export async function stream(name, body, signal, onEvent) {
  const response = await request(name, body, signal);
  if (!response.ok) throw await refusal(response);
  await events(response.body, onEvent, signal);
}

// The same, for as long as the signal is not aborted; connects again by itself.
export async function follow(name, body, signal, onEvent) {
  while (!signal.aborted) {
    try {
      await stream(name, body, signal, onEvent);
    } catch (error) {
      if (signal.aborted) return;
      const known = error instanceof Refused;
      onEvent("trouble", { error: known ? error.message : "The inspector does not answer; was it ended?" });
      if (known && error.status === 401) return;
    }
    await pause(1000);
  }
}

async function events(body, onEvent, signal) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let parts = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done || signal.aborted) return;
    const pieces = value.split("\n\n");
    for (const piece of pieces.slice(0, -1)) {
      parts.push(piece);
      const [name, data] = parts.join("").split("\ndata: ");
      parts = [];
      onEvent(name.replace("event: ", ""), JSON.parse(data));
    }
    parts.push(pieces.at(-1));
  }
}
