/** Sends a file and says how much of it has left: fetch does not tell, so this is the one request by XMLHttpRequest. */

import { Problem, token } from "./api.js";

/** The JSON that answers {value, status, tag}. `progress(part)` gets 0 to 1. Throws Problem, also if `signal` aborts. */
export function transfer(method, path, blob, { headers = {}, progress = () => {}, signal } = {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, path);
    const value = token.get();
    const all = { Accept: "application/json", "Content-Type": "application/octet-stream", ...headers, ...(value && { Authorization: `Bearer ${value}` }) };
    for (const [name, text] of Object.entries(all)) request.setRequestHeader(name, text);
    request.upload.addEventListener("progress", ({ loaded, total }) => progress(total ? loaded / total : 0));
    request.addEventListener("load", () => {
      const body = parsed(request);
      if (body && request.status < 300) resolve({ value: body, status: request.status, tag: request.getResponseHeader("ETag") });
      else reject(new Problem({ status: request.status, ...body }));
    });
    const broken = { detail: "the connection broke, or the file cannot be read. Fix: check that both still exist" };
    request.addEventListener("error", () => reject(new Problem(broken)));
    request.addEventListener("abort", () => reject(new Problem({ title: "Stopped", detail: "You stopped this upload.", code: "stopped" })));
    signal?.addEventListener("abort", () => request.abort());
    request.send(blob);
  });
}

function parsed({ responseText }) {
  try {
    return JSON.parse(responseText);
  } catch {
    return null;
  }
}
