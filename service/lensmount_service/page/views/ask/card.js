/** The card of one image: the image itself, and the answer of each adapter. */

import { html, useState } from "../../lib/html.js";
import { ProblemBox } from "../../lib/parts.js";
import { Differ } from "./compare.js";
import { images } from "./images.js";
import { Overlay } from "./overlay.js";
import { Result } from "./result.js";

export function Card({ item, picks }) {
  const [hidden, setHidden] = useState(new Set()); // masks that are switched off, as "pick label"
  const answers = images.answersOf(item);
  const shown = answers.filter(Boolean);
  const layers = layersOf(answers);
  const switchMask = (name) => {
    const next = new Set(hidden);
    if (!next.delete(name)) next.add(name);
    setHidden(next);
  };
  return html`<article class="card" aria-busy=${images.waits(item)} aria-label=${item.name}>
    <${Overlay} item=${item} layers=${layers.filter(({ name }) => !hidden.has(name))} />
    <div class="told">
      <div class="bar">
        <h3>${item.name}</h3>
        <button type="button" class="plain" aria-label=${`Remove ${item.name}`} onClick=${() => images.remove(item)}>Remove</button>
      </div>
      ${item.problem && html`<${ProblemBox} problem=${item.problem} again=${() => images.again(item)} />`}
      ${!picks.length && html`<p class="quiet">Pick an adapter to get an answer.</p>`}
      ${!item.problem && images.waits(item) && html`<p class="waiting quiet">Asking …</p>`}
      <${Differ} answers=${answers} picks=${picks} />
      <div class=${`results ${shown.length > 1 ? "several" : ""}`}>
        ${answers.map((answer, at) => answer && html`<${Result} key=${images.picks[at].identity} item=${item} answer=${answer} layers=${layers.filter((layer) => layer.pick === at)} hidden=${hidden} switchMask=${switchMask} />`)}
      </div>
    </div>
  </article>`;
}

/** The masks of all answers, each with its colour, in the order in which they are painted. */
function layersOf(answers) {
  const layers = [];
  answers.forEach((answer, pick) => {
    for (const { label, counts } of answer?.segmentation?.masks ?? []) {
      layers.push({ name: `${pick} ${label}`, pick, label, counts, size: answer.segmentation.size, index: layers.length });
    }
  });
  return layers;
}
