/** Jobs. */

import { html } from "../lib/html.js";
import { useSession } from "../lib/session.js";

export default function Jobs({ route }) {
  const session = useSession();
  return html`<h2>Jobs</h2>`;
}
