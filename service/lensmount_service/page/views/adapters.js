/** Adapters: the list, and everything about one of them. */

import { html } from "../lib/html.js";
import List from "./adapters/list.js";
import One from "./adapters/one.js";

export default function Adapters({ route: { rest: [name, tab] } }) {
  return name ? html`<${One} key=${name} name=${name} tab=${tab} />` : html`<${List} />`;
}
