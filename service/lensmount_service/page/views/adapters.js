/** Adapters. */

import { html } from "../lib/html.js";
import { useSession } from "../lib/session.js";

export default function Adapters({ route }) {
  const session = useSession();
  return html`<h2>Adapters</h2>`;
}
