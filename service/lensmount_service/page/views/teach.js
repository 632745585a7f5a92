/** Teach. */

import { html } from "../lib/html.js";
import { useSession } from "../lib/session.js";

export default function Teach({ route }) {
  const session = useSession();
  return html`<h2>Teach</h2>`;
}
