/** A file of the server onto the user's disk. A link cannot send a token, so the page fetches the file itself. */

import { file } from "./api.js";

export async function download(path, name) {
  save(await file(path), name);
}

/** What the page itself made, as a file on the user's disk. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // the browser may still read it
}
