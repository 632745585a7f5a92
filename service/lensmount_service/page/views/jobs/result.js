/** What came of a job: the verdict of the comparison, and how right the new adapter is. */

import { html } from "../../lib/html.js";
import { Part, Table } from "../../lib/controls.js";
import { number, percent, plural } from "../../lib/parts.js";
import { address } from "../../lib/route.js";
import { verdictOf } from "./words.js";

const MOST = 12; // labels of a confusion table

export default function Result({ job, predicts }) {
  const verdict = verdictOf(job);
  if (!verdict) return null;
  const [kind, title, words] = verdict;
  const { published, gate, metrics } = job.result;
  const found = metrics?.test?.count ? metrics.test : metrics?.validation;
  const before = gate.replaced?.balanced_accuracy;
  return html`<${Part} title="Result">
    <div class=${kind === "good" ? "said" : "problem"}><div><b>${title}.</b> ${words}
      ${published && html` <a href=${address("adapters", [job.adapter])}>Open ${job.adapter}</a>${predicts && html` <a href=${address("ask", [], { adapter: job.adapter })}>Ask it</a>`}`}</div></div>
    ${typeof before === "number" && html`<p>On the same test images: the new version is right about ${percent(gate.balanced_accuracy)}, version ${gate.replaced.version} about ${percent(before)} (mean over the labels).</p>`}
    ${found?.count > 0 && html`
      <p>Of ${plural(found.count, "image")} ${metrics.test?.count ? "that training never saw" : "kept aside"}, it classified <b>${number(Math.round(found.accuracy * found.count))}</b> correctly.</p>
      ${found.confusion && found.classes.length <= MOST && html`<${Table} label="Which label got which answer" columns=${["the label ↓, the answer →", ...found.classes.map(({ label }) => label)]}
        rows=${found.confusion.map((row, at) => [found.classes[at].label, ...row.map(number)])} marked=${(row, column) => row === column - 1} />`}`}
  <//>`;
}
