/** The answers: few images as cards, many as a table, with what concerns all of them above. */

import { html, useEffect, useState } from "../../lib/html.js";
import { plural } from "../../lib/parts.js";
import { Card } from "./card.js";
import { images } from "./images.js";
import { Table } from "./table.js";

const TABLE_FROM = 13; // images
const MOST_CARDS = 100;

export function Answers({ picks, turn }) {
  const [form, setForm] = useState(null); // what the user chose: "cards" or "table"
  const { items } = images;
  useEffect(() => void (!items.length && setForm(null)), [items.length === 0]);
  if (!items.length) return null;
  const choice = items.length <= MOST_CARDS;
  const table = choice && form ? form === "table" : items.length >= TABLE_FROM;
  return html`<div class="answers">
    <div class="bar">
      <h2>Answers</h2>
      <p class="quiet" role="status">${counted(items)}</p>
      <${Opacity} items=${items} />
      ${choice && items.length > 1 && html`<button type="button" class="plain" onClick=${() => setForm(table ? "cards" : "table")}>Show as ${table ? "cards" : "a table"}</button>`}
      <button type="button" class="plain" onClick=${() => images.clear()}>Remove all</button>
    </div>
    ${images.notKept > 0 && html`<p class="quiet">${plural(images.notKept, "image")} will be gone after a reload: this tab keeps 200 MB.</p>`}
    ${table ? html`<${Table} picks=${picks} turn=${turn} />` : html`<${Cards} items=${items} picks=${picks} turn=${turn} />`}
  </div>`;
}

const Cards = ({ items, picks, turn }) => html`<ul id="images">
  ${items.map((item) => html`<li key=${item.key}><${Card} item=${item} picks=${picks} turn=${turn} /></li>`)}
</ul>`;

/** "3 of 12 images answered", and at the end "12 images, 1 with an error". */
function counted(items) {
  const waiting = items.filter((item) => images.waits(item)).length;
  if (waiting) return `${items.length - waiting} of ${plural(items.length, "image")} answered …`;
  const failed = items.filter(({ problem }) => problem).length;
  return plural(items.length, "image") + (failed ? `, ${failed} with an error` : "");
}

/** How strongly masks cover the images; shown only if there are masks. */
function Opacity({ items }) {
  const [opacity, setOpacity] = useState(50);
  useEffect(() => document.getElementById("page").style.setProperty("--opacity", opacity / 100), [opacity]);
  if (!items.some((item) => images.answersOf(item).some((answer) => answer?.segmentation))) return null;
  return html`<label id="opacity-field">Mask opacity
    <input type="range" min="0" max="100" value=${opacity} onInput=${(event) => setOpacity(Number(event.target.value))} />
  </label>`;
}
