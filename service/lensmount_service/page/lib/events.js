/** Server-sent events by fetch, because EventSource sends no token. The stream is resumed after the last event. */

import { Problem, token } from "./api.js";

const WAITS_MS = [500, 1000, 2000, 5000]; // before the next try, the last one again and again

/**
 * Calls `event(kind, data)` for every event at `path` until `end` or until `signal` aborts. A lost connection is opened
 * again; `lost(true)` says so, and `lost(false)` that it is back. Throws Problem for an answer that waiting does not mend.
 */
export async function follow(path, { event, lost = () => {}, signal }) {
  let last = "";
  for (let tries = 0; !signal.aborted; tries++) {
    try {
      const response = await opened(path, last, signal);
      if (!response.ok) {
        const problem = new Problem({ status: response.status, ...(await response.json().catch(() => ({}))) });
        if (!problem.retryable) throw problem;
      } else {
        lost(false);
        for await (const each of eventsOf(response.body)) {
          tries = 0;
          last = each.id ?? last;
          event(each.kind, each.data);
          if (each.kind === "end") return;
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem) throw error;
    }
    lost(true);
    await new Promise((resolve) => setTimeout(resolve, WAITS_MS[Math.min(tries, WAITS_MS.length - 1)]));
  }
}

const opened = (path, last, signal) => {
  const value = token.get();
  const headers = {
    Accept: "text/event-stream, application/problem+json",
    ...(last && { "Last-Event-ID": last }),
    ...(value && { Authorization: `Bearer ${value}` }),
  };
  return fetch(path, { headers, signal });
};

async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
    text += value.replaceAll("\r", "");
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => /^(\w*): ?(.*)$/.exec(line)?.slice(1) ?? ["", ""]));
      if (fields.data) yield { kind: fields.event ?? "message", id: fields.id, data: JSON.parse(fields.data) };
    }
  }
}
