/** One image of the table, as its card, in a dialog with steps to the images next to it. */

import { html, useEffect, useRef } from "../../lib/html.js";
import { Card } from "./card.js";

export function Open({ item, picks, turn, before, after, show }) {
  const dialog = useRef();
  useEffect(() => dialog.current.showModal(), []);
  const step = ({ key }) => {
    const other = { ArrowLeft: before, ArrowRight: after }[key];
    if (other) show(other);
  };
  return html`<dialog class="open" ref=${dialog} aria-label=${item.name} onClose=${() => show(null)} onKeyDown=${step}>
    <div class="bar">
      <button type="button" disabled=${!before} onClick=${() => show(before)}>Previous</button>
      <button type="button" disabled=${!after} onClick=${() => show(after)}>Next</button>
      <button type="button" onClick=${() => dialog.current.close()}>Close</button>
    </div>
    <${Card} key=${item.key} item=${item} picks=${picks} turn=${turn} />
  </dialog>`;
}
