// Asking the server: models, and answers as a stream of events.

export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

function headers(key) {
  const all = { "content-type": "application/json" };
  if (key) all.authorization = `Bearer ${key}`;
  return all;
}

async function refuse(response) {
  let message = response.statusText;
  try {
    message = (await response.json()).error.message;
  } catch { /* no JSON: the status says enough */ }
  throw new ServerError(response.status, message);
}

export async function models(key) {
  const response = await fetch("v1/models", { headers: headers(key) });
  if (!response.ok) await refuse(response);
  return (await response.json()).data;
}

// Yields the events of one answer; `signal` stops the model.
export async function* answer(body, key, signal) {
  const response = await fetch("v1/chat/completions", {
    method: "POST",
    headers: headers(key),
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true }, return_progress: true }),
    signal,
  });
  if (!response.ok) await refuse(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      if (!block.startsWith("data: ") || block === "data: [DONE]") continue; // comments keep the line open
      const event = JSON.parse(block.slice(6));
      if (event.error) throw new ServerError(500, event.error.message);
      yield event;
    }
  }
}
