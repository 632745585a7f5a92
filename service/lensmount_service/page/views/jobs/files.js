/** The files that a job left. */

import { html } from "../../lib/html.js";
import { get } from "../../lib/api.js";
import { Outcome, Part, useAction } from "../../lib/controls.js";
import { download } from "../../lib/download.js";
import { ProblemBox, Waiting, useAsked } from "../../lib/parts.js";
import { bytes } from "../../lib/words.js";

const MEANINGS = {
  "adapter.safetensors": "the adapter itself",
  "card.md": "what it is, how right it is and what it promises, as text",
  "report.html": "the same with curves and the hardest images, for a browser",
  "metrics.json": "all figures, for programs",
  "metrics.png": "the curves as an image",
  "log.txt": "the log of the worker",
  "results.jsonl": "one line for each image and adapter",
};

export default function Files({ path, adapter }) {
  const { value, problem, reload } = useAsked(() => get(`${path}/files`), [path]);
  const action = useAction();
  const fetchIt = (name) => action.run(() => download(`${path}/files/${encodeURIComponent(name)}`, `${adapter}-${name}`), "Downloading");
  return html`<${Part} title="Files">
    ${problem && html`<${ProblemBox} problem=${problem} again=${reload} />`}
    ${!value && !problem && html`<${Waiting} />`}
    ${value?.files.length === 0 && html`<p class="quiet">It left no files.</p>`}
    ${value?.files.length > 0 && html`<ul class="rows">${value.files.map(({ name, size_bytes: size }) => html`<li key=${name}>
      <div class="main"><b>${name}</b> <span class="quiet">${bytes(size)}${MEANINGS[name] ? `: ${MEANINGS[name]}` : ""}</span></div>
      <button type="button" disabled=${action.busy} aria-label="Download ${name}" onClick=${() => fetchIt(name)}>Download</button>
    </li>`)}</ul>`}
    <${Outcome} action=${action} />
  <//>`;
}
