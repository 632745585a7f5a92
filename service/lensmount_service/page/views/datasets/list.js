/** The datasets, with what is doubtful about each, and a place to drop another one. */

import { html, useState } from "../../lib/html.js";
import { get, send } from "../../lib/api.js";
import { Outcome, useAction } from "../../lib/controls.js";
import { Badge, Empty, ProblemBox, Waiting, plural, useAsked } from "../../lib/parts.js";
import { address } from "../../lib/route.js";
import { When, byWhom, bytes } from "../../lib/words.js";
import Upload from "./upload.js";
import { contentOf, datasetLink, datasetPath } from "./words.js";

export default function List() {
  const [adding, setAdding] = useState(false);
  const { value, problem, reload } = useAsked(async () => {
    const [own, shared] = await Promise.all([get("datasets"), get("datasets?public=true")]);
    const known = new Set(own.datasets.map(({ digest }) => digest));
    return [...own.datasets, ...shared.datasets.filter(({ digest }) => !known.has(digest))];
  }, []);
  return html`<div class="view-head"><h2>Datasets</h2>
      <div class="side"><button type="button" onClick=${reload}>Refresh</button>
        <button type="button" aria-expanded=${adding} onClick=${() => setAdding(!adding)}>Add a dataset</button></div>
    </div>
    <p class="quiet">A dataset is a set of labelled images to train on. It keeps all its versions.</p>
    ${adding && html`<${Upload} changed=${reload} />`}
    ${problem && html`<${ProblemBox} problem=${problem} again=${reload} />`}
    ${!value && !problem && html`<${Waiting} />`}
    ${value?.length === 0 && html`<${Empty} title="There are no datasets yet">
      <a href=${address("teach")}>Teach</a> makes one from images that you drop, or add a folder here with one subfolder for each label.<//>`}
    ${value?.length > 0 && html`<ul class="rows long" id="datasets">${value.map((dataset) => html`<${Row} key=${dataset.name} dataset=${dataset} />`)}</ul>`}
    <${Restore} changed=${reload} />`;
}

function Row({ dataset }) {
  const { name, version, digest, created_at, size_bytes: size, report, owner } = dataset;
  const { warnings = [], notes = [] } = report;
  const lines = [...warnings.map(({ message }) => message), ...notes];
  return html`<li title=${digest}>
    <div class="main">
      <a class="name-link" href=${datasetLink(name)}>${name}</a> <span class="quiet">version ${version}</span>
      ${warnings.length > 0 && html` <${Badge} kind="wrong">${plural(warnings.length, "warning")}<//>`}
      <div class="quiet" title=${contentOf(dataset, Infinity)}>${contentOf(dataset)}</div>
      ${lines.length > 0 && html`<details><summary>${warnings.length ? "What to check" : "What was left out"}</summary>
        <ul class="plain">${lines.map((line) => html`<li key=${line}>${line}</li>`)}</ul></details>`}
    </div>
    <div class="end quiet"><span>${bytes(size)}, <${When} at=${created_at} />${byWhom(owner)}</span></div>
  </li>`;
}

/** The API lists no deleted datasets, so the user has to know the name. */
function Restore({ changed }) {
  const [name, setName] = useState("");
  const action = useAction();
  const restore = (event) => {
    event.preventDefault();
    action.run(async () => {
      const { version } = await send("POST", `${datasetPath(name.trim())}/undelete`);
      setName("");
      changed();
      return { words: `${name.trim()} is back; its newest version is ${version}.` };
    });
  };
  return html`<details class="part"><summary>Bring a deleted dataset back</summary>
    <form class="fields" onSubmit=${restore}>
      <label class="field">Its name<input value=${name} required maxlength="64" onInput=${({ target }) => setName(target.value)} /></label>
      <button disabled=${action.busy}>Bring it back</button>
    </form>
    <${Outcome} action=${action} />
  </details>`;
}
