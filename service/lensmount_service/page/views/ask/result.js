/** The answer of one adapter: the label that it gives, how far that can be relied on, and what is behind it. */

import { html } from "../../lib/html.js";
import { colourOf } from "../../lib/masks.js";
import { Meter, number, percent, plural } from "../../lib/parts.js";
import { useSession } from "../../lib/session.js";
import { titleOf } from "../../lib/titles.js";
import { Trust } from "../../lib/trust.js";
import { Feedback } from "./feedback.js";
import { Why } from "./why.js";

const FIRST = 5; // labels shown at once; the others unfold

export function Result({ item, answer, layers, hidden, switchMask }) {
  const { adapters } = useSession();
  const { adapter, predictions, trust, segmentation, error, fallback } = answer;
  const known = adapters.find(({ name }) => name === adapter.name);
  const title = (label) => titleOf(known, label);
  const volume = /-3d\d*$/.test(answer.backbone?.name ?? "");
  return html`<div role="group" aria-label=${`${adapter.name}, version ${adapter.version}`} class=${`result ${trust?.decision ?? ""}`}>
    <h4>${adapter.name}<span class="quiet"> version ${adapter.version}</span></h4>
    ${error && html`<div class="problem"><b>No answer (${error.status})</b><p>${error.detail}</p><code>${error.code}</code></div>`}
    ${fallback && html`<p class="quiet">Version ${fallback.asked} failed too often, so version ${fallback.served} answered.</p>`}
    ${segmentation && html`<${Masks} size=${segmentation.size} masks=${segmentation.masks} layers=${layers} hidden=${hidden} switchMask=${switchMask} title=${title} />`}
    ${!segmentation && !error && html`<${Verdict} predictions=${predictions} title=${title} />`}
    ${!error && html`<${Trust} trust=${trust} title=${title} />`}
    ${!segmentation && !error && html`<${Scores} predictions=${predictions} title=${title} />`}
    ${!error && !segmentation && html`<div class="actions">
      ${!volume && html`<${Why} file=${item.file} adapter=${`${adapter.name}@${adapter.digest}`} label=${predictions[0].label} title=${title(predictions[0].label)} />`}
      ${known && html`<${Feedback} file=${item.file} answer=${answer} labels=${known.labels} title=${title} />`}
    </div>`}
    ${!error && html`<${Details} answer=${answer} />`}
  </div>`;
}

const Verdict = ({ predictions: [best], title }) => html`<p class="verdict"><b>${title(best.label)}</b> <span class="number">${percent(best.score)}</span></p>`;

function Scores({ predictions, title }) {
  const rows = predictions.map(({ label, score }) => html`<div class="score" key=${label}>
    <span title=${label}>${title(label)}</span><span class="number">${percent(score)}</span>
    <${Meter} label=${title(label)} value=${score} />
  </div>`);
  if (rows.length <= FIRST + 1) return rows;
  return [rows.slice(0, FIRST), html`<details><summary>${rows.length - FIRST} more labels</summary>${rows.slice(FIRST)}</details>`];
}

/** One row per label: a checkbox that shows its mask, its colour, its share of the image, area and count. */
const Masks = ({ size, masks, layers, hidden, switchMask, title }) => masks.map(({ label, area, count }, at) => {
  const { name, index } = layers[at];
  const share = area / (size[0] * size[1]);
  return html`<div class="score" key=${label}>
    <label><input type="checkbox" checked=${!hidden.has(name)} onChange=${() => switchMask(name)} /><span class="swatch" style=${{ backgroundColor: `rgb(${colourOf(index).join(" ")})` }}></span>${title(label)}</label>
    <span class="number">${percent(share)}</span>
    <${Meter} label=${title(label)} value=${share} />
    <span class="quiet">${number(area)} pixels in ${plural(count, "region")}</span>
  </div>`;
});

function Details({ answer: { adapter, backbone, timing_ms: timing, request_id: request, trust } }) {
  const rows = [
    ["Adapter", adapter.digest],
    ["Backbone", `${backbone.name}, ${backbone.fingerprint}`],
    ["Time", `${timing.total.toFixed(1)} ms: ${timing.queue.toFixed(1)} waiting, ${timing.decode.toFixed(1)} reading the image, ${timing.forward.toFixed(1)} computing`],
    ["Request", request],
    trust?.calibration && ["Trust", `measured on ${plural(trust.calibration.images, "image")} kept aside`],
    trust?.unfamiliarity && ["Unlike", `more than ${trust.unfamiliarity.percentile.toFixed(1)} % of the images kept aside`],
  ];
  return html`<details class="behind"><summary>Details</summary>
    <dl>${rows.filter(Boolean).map(([name, text]) => html`<div key=${name}><dt>${name}</dt><dd><code>${text}</code></dd></div>`)}</dl>
  </details>`;
}
