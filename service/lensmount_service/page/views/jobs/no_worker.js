/** What to do if nothing trains. */

import { html } from "../../lib/html.js";
import { Copied } from "../../lib/controls.js";

export default function NoWorker() {
  const server = `${location.origin}${location.pathname.replace(/\/$/, "")}`;
  return html`<div class="problem" id="no-worker">
    <b>Nothing trains: this server has no worker</b>
    <p>Jobs wait until one starts. On the machine of the server, one of these lines in a terminal is enough. A new worker needs a few seconds.</p>
    <p><${Copied} label="Start a worker" text="lensmount worker --server ${server}" /></p>
    <p><${Copied} label="Or start the server together with a worker" text="lensmount serve --with-worker" /></p>
  </div>`;
}
