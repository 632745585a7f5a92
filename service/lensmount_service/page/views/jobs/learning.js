/** How a training went, epoch by epoch: the curves that Teach shows as well, and their figures. */

import { html } from "../../lib/html.js";
import { Part, Table } from "../../lib/controls.js";
import { percent } from "../../lib/parts.js";
import { Curves } from "../teach/curves.js";

export default function Learning({ epochs, most }) {
  if (!epochs.length) return null;
  return html`<${Part} title="How it learned">
    <${Curves} history=${epochs} epochs=${most} />
    <details><summary>Figures of each epoch</summary><${Table} label="Figures of each epoch" columns=${["Epoch", "Right, training", "Right, kept aside", "Loss", "Loss, kept aside"]}
      rows=${epochs.map((epoch) => [epoch.epoch, part(epoch.accuracy), part(epoch.validation_balanced_accuracy), loss(epoch.loss), loss(epoch.validation_loss)])} /></details>
  <//>`;
}

const part = (value) => (typeof value === "number" ? percent(value) : "–");
const loss = (value) => (typeof value === "number" ? value.toFixed(4) : "–");
