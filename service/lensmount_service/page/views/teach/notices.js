/** What was wrong with the images that came: refused files, copies, and images that are in two classes. */

import { html } from "../../lib/html.js";
import { plural } from "../../lib/parts.js";
import { conflicts } from "./advice.js";
import { Picture } from "./column.js";
import { task } from "./task.js";

const SHOWN = 20; // conflicts at a time

export function Notices({ state }) {
  const { refused, again, images, reading, removed } = state;
  const doubtful = images.filter(({ doubt }) => doubt).length;
  return html`<div class="notices" aria-live="polite">
    ${reading && html`<p class="waiting quiet">Looking at ${plural(reading.total, "file")}: ${reading.done} done</p>`}
    ${removed && html`<p class="quiet">${removed.images.length ? plural(removed.images.length, "image") : "A class"} removed.
      <button type="button" class="plain" onClick=${() => task.undo()}>Undo</button></p>`}
    ${again > 0 && html`<p class="quiet">${plural(again, "image")} left out: the class already has ${again === 1 ? "a copy" : "copies"}.</p>`}
    ${doubtful > 0 && html`<p class="quiet">${plural(doubtful, "image")} marked as doubtful. Remove what does not belong.</p>`}
    ${refused.length > 0 && html`<${Refused} refused=${refused} />`}
    <${Conflicts} state=${state} />
  </div>`;
}

function Refused({ refused }) {
  return html`<details open=${refused.length <= 5}>
    <summary>${plural(refused.length, "file")} could not be used</summary>
    <ul>${refused.slice(0, 100).map(({ path, refused: reason }) => html`<li><b>${path}</b>: ${reason}</li>`)}</ul>
  </details>`;
}

function Conflicts({ state }) {
  const found = conflicts(state);
  if (!found.length) return null;
  const nameOf = (id) => state.classes.find((each) => each.id === id)?.name;
  const keep = (images, kept) => task.removeImages(images.filter((image) => image !== kept).map(({ id }) => id));
  return html`<div class="problem conflicts">
    <b>${plural(found.length, "image")} in two classes</b>
    <p>The same image cannot be both. Choose the class that is right.</p>
    <ul>${found.slice(0, SHOWN).map(
      ({ digest, images }) => html`<li key=${digest}>
        ${images[0].thumb && html`<${Picture} blob=${images[0].thumb} alt=${images[0].path} />`}
        ${images.map((image) => html`<button type="button" onClick=${() => keep(images, image)}>Keep in ${nameOf(image.classId)}</button>`)}
      </li>`,
    )}</ul>
  </div>`;
}
