/** The page's requests to the server, and the problem that it shows when a request fails. */

const KEY = "lensmount-token"; // in sessionStorage, which ends with the tab

/** A response of application/problem+json, or a missing response. `retryable` if the same request may succeed later. */
export class Problem extends Error {
  constructor({ title = "No response", detail = "", code = "no_answer", status = 0, request_id = "", retryAfter = 0 }) {
    super(detail);
    Object.assign(this, { title, detail, code, status, requestId: request_id, retryAfter });
    this.retryable = [0, 408, 429, 500, 502, 503, 504].includes(status);
  }
}

/** `error` as a problem, so that errors in this page's own code are shown as well. */
export const asProblem = (error) =>
  error instanceof Problem ? error : new Problem({ title: "Error in this page", detail: String(error), code: "page_error" });

export const token = {
  get: () => sessionStorage.getItem(KEY),
  forget: () => sessionStorage.removeItem(KEY),
  set(value) {
    if (!/^[\x21-\x7e]+$/.test(value)) {
      throw new Problem({
        title: "Invalid token",
        detail: "found characters that are not allowed in a header, expected printable ASCII without spaces",
        code: "unauthorized",
        status: 401,
      });
    }
    sessionStorage.setItem(KEY, value);
  },
};

/** The JSON at `path`. Paths are relative, so the page also works below a proxy's prefix. */
export const get = (path) => ask(path, {});

/** The JSON at `path` as `value`, with its ETag as `tag` for the If-Match of a later write. */
export const tagged = (path) => ask(path, {}, async (response) => ({ value: await response.json(), tag: response.headers.get("ETag") }));

/** The JSON that answers a request with another method, and with `body` as JSON if there is one; null for an empty answer. */
export const send = (method, path, body, headers = {}) =>
  ask(path, { method, headers, ...(body && { body: JSON.stringify(body), headers: { "Content-Type": "application/json", ...headers } }) });

/** The file at `path` as a Blob. */
export const file = (path) => ask(path, { headers: { Accept: "*/*" } }, (response) => response.blob());

/** The JSON that answers a request with a file as its body. */
export const sendFile = (method, path, blob, headers = {}) =>
  ask(path, { method, body: blob, headers: { "Content-Type": "application/octet-stream", ...headers } });

/** The image at `path` as a Blob. */
export async function picture(path) {
  const value = token.get();
  const response = await fetch(path, { headers: value ? { Authorization: `Bearer ${value}` } : {} });
  if (!response.ok) throw new Problem({ status: response.status });
  return response.blob();
}

/** The results of one file for several adapters, in the order of the adapters. */
export async function predict(file, adapters, signal) {
  const body = await ask(predictPath(adapters), { method: "POST", body: file, headers: typeOf(file), signal });
  return body.results ?? [body];
}

/** The results of `files` for several adapters, ordered by file and then by adapter. */
export async function predictMany(files, adapters) {
  if (files.length === 1) return predict(files[0], adapters);
  const form = new FormData();
  files.forEach((file, number) => form.append("file", file, `${number}`)); // the names stay here
  return (await ask(predictPath(adapters), { method: "POST", body: form })).results;
}

const predictPath = (adapters) => `predict?adapter=${adapters.map(encodeURIComponent).join(",")}&top_k=50`;

/** Tells the server the right `label` of an image that `adapter` answered; `answer` is the request_id of the answer. */
export function correct(file, { adapter, label, who, answer }) {
  const query = new URLSearchParams({ adapter, label, who, ...(answer && { request_id: answer }) });
  return ask(`feedback?${query}`, { method: "POST", body: file, headers: typeOf(file) });
}

const typeOf = (file) => ({ "Content-Type": file.type || "application/octet-stream" });

/** The file with what speaks for `label` in colour, as an image, and the method and grid of the explanation. */
export async function explain(file, adapter, label, method) {
  const query = new URLSearchParams({ adapter, label, method });
  const headers = { ...typeOf(file), Accept: "image/png" };
  return ask(`explain?${query}`, { method: "POST", body: file, headers }, async (response) => {
    const about = response.headers.get("Lensmount-Explanation") ?? "";
    return { image: await response.blob(), grid: /grid=(\d+)x(\d+)/.exec(about)?.slice(1) ?? [] };
  });
}

/** The JSON at `path`, or what `read` makes of a response without an error. */
async function ask(path, { headers = {}, ...options }, read = (response) => (response.status === 204 ? null : response.json())) {
  const value = token.get();
  const all = { Accept: "application/json", ...headers, ...(value && { Authorization: `Bearer ${value}` }) };
  let response, body;
  try {
    response = await fetch(path, { ...options, headers: all });
    body = await (response.ok ? read(response) : response.json());
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const detail = response
      ? `found a response with status ${response.status} that cannot be read, expected one from a Lensmount server`
      : "the server cannot be reached, or the file cannot be read. Fix: check that both still exist";
    throw new Problem({ detail, status: response?.status ?? 0 });
  }
  if (!response.ok) {
    const retryAfter = Number(response.headers.get("Retry-After")) || 0; // seconds
    throw new Problem({ status: response.status, retryAfter, ...body });
  }
  return body;
}
