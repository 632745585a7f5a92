/** Correct. */

import { html } from "../lib/html.js";
import { useSession } from "../lib/session.js";

export default function Correct({ route }) {
  const session = useSession();
  return html`<h2>Correct</h2>`;
}
