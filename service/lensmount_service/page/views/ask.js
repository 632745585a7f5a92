/** Ask. */

import { html } from "../lib/html.js";
import { useSession } from "../lib/session.js";

export default function Ask({ route }) {
  const session = useSession();
  return html`<h2>Ask</h2>`;
}
