/** Datasets: the list, and everything about one of them. */

import { html } from "../lib/html.js";
import List from "./datasets/list.js";
import One from "./datasets/one.js";

export default function Datasets({ route: { rest: [name] } }) {
  return name ? html`<${One} key=${name} name=${name} />` : html`<${List} />`;
}
