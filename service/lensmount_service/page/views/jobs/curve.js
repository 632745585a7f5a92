/** The curves of a training: how often it is right on the images that it learns from, and on those kept aside. */

import { html } from "../../lib/html.js";
import { Part, Table } from "../../lib/controls.js";
import { percent } from "../../lib/parts.js";

const WIDTH = 640;
const HEIGHT = 180;
const LEFT = 44;
const LINES = [
  ["accuracy", "training images", "line-training"],
  ["validation_balanced_accuracy", "images kept aside", "line-aside"],
];

export default function Curve({ epochs }) {
  const shown = LINES.filter(([key]) => epochs.some((epoch) => typeof epoch[key] === "number"));
  if (!epochs.length || !shown.length) return null;
  const x = (index) => LEFT + (epochs.length < 2 ? (WIDTH - LEFT) / 2 : (index / (epochs.length - 1)) * (WIDTH - LEFT - 8));
  const y = (value) => 8 + (1 - value) * (HEIGHT - 32);
  const last = epochs.at(-1);
  const words = shown.map(([key, title]) => typeof last[key] === "number" && `${percent(last[key])} of the ${title}`).filter(Boolean).join(", ");
  return html`<${Part} title="How it learned">
    <p>After epoch ${last.epoch} it is right about ${words}.</p>
    <svg class="curve" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="Curves over ${epochs.length} epochs; the table below has the figures">
      ${[0, 0.5, 1].map((value) => html`<g key=${value}><line class="grid" x1=${LEFT} x2=${WIDTH} y1=${y(value)} y2=${y(value)} /><text x=${LEFT - 6} y=${y(value) + 4} text-anchor="end">${100 * value} %</text></g>`)}
      <text x=${LEFT} y=${HEIGHT - 6}>epoch 1</text><text x=${WIDTH} y=${HEIGHT - 6} text-anchor="end">epoch ${last.epoch}</text>
      ${shown.map(([key, , kind]) => {
        const points = epochs.map((epoch, index) => [x(index), epoch[key]]).filter(([, value]) => typeof value === "number").map(([at, value]) => [at, y(value)]);
        return html`<g key=${key} class=${kind}><polyline points=${points.map((point) => point.join(",")).join(" ")} />${points.map(([cx, cy]) => html`<circle cx=${cx} cy=${cy} r="3" />`)}</g>`;
      })}
    </svg>
    <p class="legend">${shown.map(([key, title, kind]) => html`<span key=${key} class=${kind}>${title}</span>`)}</p>
    <details><summary>Figures of each epoch</summary><${Table} label="Figures of each epoch" columns=${["Epoch", "Right, training", "Right, kept aside", "Loss", "Loss, kept aside"]}
      rows=${epochs.map((epoch) => [epoch.epoch, part(epoch.accuracy), part(epoch.validation_balanced_accuracy), loss(epoch.loss), loss(epoch.validation_loss)])} /></details>
  <//>`;
}

const part = (value) => (typeof value === "number" ? percent(value) : "–");
const loss = (value) => (typeof value === "number" ? value.toFixed(4) : "–");
