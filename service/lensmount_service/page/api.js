/** What the page asks the server, and the problem that it shows when the answer is not the one it asked for. */

const KEY = "lensmount-token"; // in sessionStorage: gone with the tab

/** An answer of application/problem+json, or of none. `retryable` where the same request may pass later. */
export class Problem extends Error {
  constructor({ title = "No answer", detail = "", code = "no_answer", status = 0, request_id = "" }) {
    super(detail);
    Object.assign(this, { title, detail, code, status, requestId: request_id });
    this.retryable = [0, 408, 429, 500, 502, 503, 504].includes(status);
  }
}

/** `error` as a problem: one of this page's own code is shown as well. */
export const asProblem = (error) =>
  error instanceof Problem ? error : new Problem({ title: "Not shown", detail: String(error), code: "page_error" });

export const token = {
  get: () => sessionStorage.getItem(KEY),
  forget: () => sessionStorage.removeItem(KEY),
  set(value) {
    if (!/^[\x21-\x7e]+$/.test(value)) {
      throw new Problem({
        title: "Not a token",
        detail: "found characters that no header can carry, expected printable ASCII without spaces",
        code: "unauthorized",
        status: 401,
      });
    }
    sessionStorage.setItem(KEY, value);
  },
};

/** The JSON document at `path`; paths are relative, so the page also works below a proxy's prefix. */
export const get = (path) => ask(path, {});

/** The results of one file under several adapters, in their order. */
export async function predict(file, adapters, signal) {
  const names = adapters.map(encodeURIComponent).join(",");
  const headers = { "Content-Type": file.type || "application/octet-stream" };
  const answer = await ask(`predict?adapter=${names}&top_k=50`, { method: "POST", body: file, headers, signal });
  return answer.results ?? [answer];
}

async function ask(path, { headers = {}, ...options }) {
  const value = token.get();
  const all = { Accept: "application/json", ...headers, ...(value && { Authorization: `Bearer ${value}` }) };
  let answer, body;
  try {
    answer = await fetch(path, { ...options, headers: all });
    body = await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const detail = answer
      ? `found an answer of status ${answer.status} that is no JSON, expected that of a Lensmount server`
      : "the server was not reached, or the file could not be read. Fix: see whether both are still there";
    throw new Problem({ detail, status: answer?.status ?? 0 });
  }
  if (!answer.ok) throw new Problem({ status: answer.status, ...body });
  return body;
}
