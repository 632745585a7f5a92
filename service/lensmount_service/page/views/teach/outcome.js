/** What came of a training: is it live, how often is it right, and what can be done with it now. */

import { html, useState } from "../../lib/html.js";
import { asProblem, token } from "../../lib/api.js";
import { download } from "../../lib/download.js";
import { percent, plural, ProblemBox } from "../../lib/parts.js";
import { address } from "../../lib/route.js";

export function Outcome({ job }) {
  const { published, adapter, gate, metrics } = job.result;
  const part = metrics.test ?? metrics.validation;
  return html`<div class="outcome">
    <h4>${published ? `${adapter.name} is live, as version ${adapter.version}` : "Trained, but not live"}</h4>
    ${published
      ? html`<p>It was right on <b>${right(part)} of ${plural(part.count, "image")}</b> that were kept aside for this test: ${percent(part.balanced_accuracy)}, each class counted alike.</p>`
      : html`<p>The version that answers now stays. Reason: ${gate.reason}. More images usually help.</p>`}
    <${Figures} part=${part} />
    <${Next} job=${job} published=${published} />
  </div>`;
}

const right = ({ confusion }) => confusion.reduce((sum, row, at) => sum + row[at], 0);

function Figures({ part }) {
  const labels = part.classes.map(({ label }) => label);
  const taken = (row, at) =>
    row.map((count, other) => other !== at && count > 0 && `${count} as ${labels[other]}`).filter(Boolean).join(", ") || "none";
  return html`<table>
    <thead><tr><th scope="col">Class</th><th scope="col">Kept aside</th><th scope="col">Found</th><th scope="col">Mistaken</th></tr></thead>
    <tbody>${part.classes.map(
      ({ label, count }, at) => html`<tr key=${label}><th scope="row">${label}</th><td>${count}</td><td>${part.confusion[at][at]}</td><td>${taken(part.confusion[at], at)}</td></tr>`,
    )}</tbody>
  </table>`;
}

function Next({ job, published }) {
  const [problem, setProblem] = useState(null);
  const files = `jobs/${encodeURIComponent(job.id)}/files`;
  const keep = (path, name) => download(path, name).catch((error) => setProblem(asProblem(error)));
  const report = token.get()
    ? html`<button type="button" onClick=${() => keep(`${files}/report.html`, `${job.adapter}-report.html`)}>Download the report</button>`
    : html`<a class="button" href=${`${files}/report.html`} target="_blank" rel="noopener">Report</a>`;
  return html`<div class="choices next">
    ${published && html`<a class="button primary" href=${address("ask", [], { adapter: job.adapter })}>Ask it</a>`}
    ${report}
    <button type="button" onClick=${() => keep(`${files}/adapter.safetensors`, `${job.adapter}.safetensors`)}>Export the adapter</button>
    ${published && html`<a class="button" href=${address("adapters", [job.adapter])}>All about it</a>`}
  </div>
  ${problem && html`<${ProblemBox} problem=${problem} />`}`;
}
