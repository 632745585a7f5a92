/** Server. */

import { html } from "../lib/html.js";
import { useSession } from "../lib/session.js";

export default function Server({ route }) {
  const session = useSession();
  return html`<h2>Server</h2>`;
}
