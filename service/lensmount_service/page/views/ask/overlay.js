/** An image with masks over it. The browser cannot show every format; the answer comes all the same. */

import { html, useEffect, useRef, useState } from "../../lib/html.js";
import { colourOf, paint } from "../../lib/masks.js";
import { urlOf } from "./images.js";

export function Overlay({ item, layers }) {
  const [shows, setShows] = useState(true);
  const canvas = useRef();
  useEffect(() => {
    if (layers.length) paint(canvas.current, layers.map(({ index, ...layer }) => ({ ...layer, colour: colourOf(index) })));
  }, [layers.map(({ name }) => name).join("\n"), layers[0]?.counts]);
  const [height, width] = layers[0]?.size ?? [];
  const space = layers.length ? { aspectRatio: `${width} / ${height}`, minHeight: 0 } : {}; // there may be no image below the masks
  return html`<div class="view">
    ${shows
      ? html`<img src=${urlOf(item)} alt="" decoding="async" onError=${() => setShows(false)} />`
      : html`<div class="no-preview" style=${space}>No preview for this format</div>`}
    <canvas ref=${canvas} hidden=${!layers.length} role="img" aria-label=${`Masks of ${layers.map(({ label }) => label).join(", ")}`}></canvas>
  </div>`;
}
