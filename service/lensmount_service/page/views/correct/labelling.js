/** Labelling with the keyboard: one image of a pool at a time, digits give its label, and the next image follows. */

import { html, useEffect, useLayoutEffect, useRef, useState } from "../../lib/html.js";
import { plural, ProblemBox } from "../../lib/parts.js";
import { titleOf } from "../../lib/titles.js";
import { Batch } from "./batch.js";
import { PoolImage } from "./pool_image.js";

const KEYS = 9; // labels that have a digit

/** `chosen` is {pool, adapter, who}; `adapter` is an entry of GET /adapters. `reserved()` is called when images were. */
export function Labelling({ chosen, adapter, reserved }) {
  const [, draw] = useState(0);
  const batch = useRef();
  batch.current ??= new Batch({ ...chosen, adapter: adapter.name, reserved }, () => draw((turn) => turn + 1));
  useEffect(() => {
    batch.current.more();
    return () => (batch.current.closed = true);
  }, []);
  const { seen, at, words, problem, count } = batch.current;
  const counted = `You labelled ${plural(count, "image")}.`;
  return html`<div class="labelling">
    ${problem && html`<${ProblemBox} problem=${problem} again=${() => batch.current.more()} />`}
    ${words ? html`<p role="status">${words} ${count > 0 && counted}</p>` : seen[at] && html`<${Card} key=${at} batch=${batch.current} adapter=${adapter} counted=${counted} />`}
  </div>`;
}

function Card({ batch, adapter, counted }) {
  const card = useRef();
  useLayoutEffect(() => card.current.focus(), []); // before the next key, which belongs to this image
  const { digest, label: given } = batch.seen[batch.at];
  const title = `Image ${batch.at + 1} of ${batch.seen.length}`;
  return html`<div class="labelled" ref=${card} tabindex="0" role="group" aria-label=${`${title} of ${batch.pool}`} onKeyDown=${(event) => press(event, batch, adapter.labels)}>
    <p class="quiet" role="status">${title}, ${given === null ? "without a label" : `labelled ${titleOf(adapter, given)}`}. ${counted}</p>
    <${PoolImage} pool=${batch.pool} digest=${digest} alt=${title} />
    <div class="choices" role="group" aria-label="Labels">
      ${adapter.labels.map((label, number) => {
        const key = number < KEYS ? String(number + 1) : undefined;
        return html`<button type="button" key=${label} aria-pressed=${String(label === given)} aria-keyshortcuts=${key} onClick=${() => batch.give(label)}>
          ${key && html`<kbd aria-hidden="true">${key}</kbd>`} ${titleOf(adapter, label)}
        </button>`;
      })}
    </div>
    <div class="choices" role="group" aria-label="Move">
      <button type="button" aria-keyshortcuts="ArrowLeft" onClick=${() => batch.go(batch.at - 1)}>Previous</button>
      <button type="button" aria-keyshortcuts="ArrowRight" onClick=${() => batch.go(batch.at + 1)}>Next</button>
      <button type="button" aria-keyshortcuts="u" onClick=${() => batch.undo()}>Undo</button>
    </div>
    <p class="quiet">Keys: 1 to 9 give a label, ← and → move, U goes back to the image labelled last. Its next label counts.</p>
  </div>`;
}

function press(event, batch, labels) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const moves = { ArrowLeft: -1, ArrowRight: 1 };
  if (event.key in moves) batch.go(batch.at + moves[event.key]);
  else if (event.key.toLowerCase() === "u") batch.undo();
  else if (/^[1-9]$/.test(event.key) && event.key <= labels.length) batch.give(labels[event.key - 1]);
  else return;
  event.preventDefault();
}
