/** Jobs: the queue, and everything about one job. */

import { html } from "../lib/html.js";
import List from "./jobs/list.js";
import One from "./jobs/one.js";

export default function Jobs({ route: { rest: [id] } }) {
  return id ? html`<${One} key=${id} id=${id} />` : html`<${List} />`;
}
