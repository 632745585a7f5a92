/** A file of the server onto the user's disk. A link cannot send a token, so the page fetches the file itself. */

import { picture } from "./api.js";

export async function download(path, name) {
  const url = URL.createObjectURL(await picture(path));
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
