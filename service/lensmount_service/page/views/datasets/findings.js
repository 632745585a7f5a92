/** What the server found when it read a dataset: warnings, copies, unreadable files, and what it left out. */

import { html } from "../../lib/html.js";
import { Part } from "../../lib/controls.js";
import { Badge, plural } from "../../lib/parts.js";
import Thumb from "./thumb.js";

const MOST = 12; // examples of each kind

export default function Findings({ dataset }) {
  const { warnings = [], notes = [], duplicates, near_duplicates: near, unreadable, ignored } = dataset.report;
  const nothing = !warnings.length && !notes.length && !duplicates?.files && !near?.pairs && !unreadable?.files && !ignored?.files;
  return html`<${Part} title="What to check" side=${warnings.length > 0 && html`<${Badge} kind="wrong">${plural(warnings.length, "warning")}<//>`}>
    ${nothing && html`<p>The server found nothing to check when it read the images.</p>`}
    ${warnings.length + notes.length > 0 && html`<ul class="plain" id="warnings">${[...warnings.map(({ message }) => message), ...notes].map((line) => html`<li key=${line}>${line}</li>`)}</ul>`}
    <${Groups} dataset=${dataset} title="Copies: the same bytes twice" groups=${duplicates?.examples} />
    <${Groups} dataset=${dataset} title="Nearly the same image" groups=${near?.examples} />
    <${Names} title="Files that could not be read" found=${unreadable} />
    <${Names} title="Files that were left out" found=${ignored} />
  <//>`;
}

/** An example is a list of paths, or an object with such a list. */
const pathsOf = (example) => (Array.isArray(example) ? example : (example.paths ?? Object.values(example))).filter((each) => typeof each === "string");

function Groups({ dataset: { name, version }, title, groups = [] }) {
  if (!groups.length) return null;
  return html`<h4>${title}</h4>
    <ul class="pairs">${groups.slice(0, MOST).map(pathsOf).map((paths) => html`<li key=${paths.join()}>
      ${paths.map((path) => html`<figure key=${path}><${Thumb} name=${name} version=${version} path=${path} /><figcaption title=${path}>${path}</figcaption></figure>`)}
    </li>`)}</ul>`;
}

function Names({ title, found }) {
  if (!found?.files) return null;
  const names = found.examples.map((each) => (typeof each === "string" ? each : Object.values(each).join(": ")));
  return html`<details><summary>${title}: ${found.files}</summary>
    <ul class="plain">${names.map((each) => html`<li key=${each}>${each}</li>`)}</ul></details>`;
}
