/** Datasets. */

import { html } from "../lib/html.js";
import { useSession } from "../lib/session.js";

export default function Datasets({ route }) {
  const session = useSession();
  return html`<h2>Datasets</h2>`;
}
