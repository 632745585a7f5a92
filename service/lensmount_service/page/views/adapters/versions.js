/** The versions of an adapter, and the aliases that point at them. */

import { html, useState } from "../../lib/html.js";
import { get, send } from "../../lib/api.js";
import { Asks, Outcome, Part, useAction } from "../../lib/controls.js";
import { download } from "../../lib/download.js";
import { Badge, Meter, ProblemBox, Waiting, useAsked } from "../../lib/parts.js";
import { When, byWhom, bytes } from "../../lib/words.js";
import Aliases from "./aliases.js";
import Deleted from "./deleted.js";
import Upload from "./upload.js";
import { pathOf } from "./words.js";

const AT_ONCE = 20;

export default function Versions({ adapter, tag, changed }) {
  const action = useAction();
  const [adding, setAdding] = useState(false);
  const first = firstOf(adapter.name);
  return html`<${Outcome} action=${action} first=${first} reload=${changed} />
    <${Aliases} adapter=${adapter} changed=${changed} />
    <${Part} title="Versions" side=${html`<button type="button" aria-expanded=${adding} onClick=${() => setAdding(!adding)}>Add a version</button>`}>
      ${adding && html`<${Upload} name=${adapter.name} tag=${tag} changed=${changed} />`}
      <${List} adapter=${adapter} action=${action} changed=${changed} />
    <//>
    <${Deleted} only=${adapter.name} changed=${changed} />`;
}

/** Who changed an adapter last, in a sentence, for a conflict. */
export const firstOf = (name) => async () => {
  const { version, owner, created_at } = await get(pathOf(name));
  return `Its newest version is now ${version}, uploaded${byWhom(owner)} at ${new Date(created_at).toLocaleString("en-GB")}.`;
};

function List({ adapter, action, changed }) {
  const { name, versions, aliases } = adapter;
  const [most, setMost] = useState(AT_ONCE);
  const shown = [...versions].sort((a, b) => b - a).slice(0, most);
  const { value, problem, reload } = useAsked(() => Promise.all(shown.map((version) => get(`${pathOf(name)}/versions/${version}`))), [name, versions.join(), most]);
  if (problem) return html`<${ProblemBox} problem=${problem} again=${reload} />`;
  if (!value) return html`<${Waiting} />`;
  const remove = (version) =>
    action.run(async () => {
      const last = versions.length === 1;
      await send("DELETE", `${pathOf(name)}/versions/${version.version}`, null, { "If-Match": `"${version.digest}"` });
      if (!last) await changed();
      const undo = async () => {
        await send("POST", `${pathOf(name)}/versions/${version.version}/undelete`);
        await changed();
        return { words: `Version ${version.version} is back.` };
      };
      return { words: `Version ${version.version} was deleted.`, undo };
    }, "Deleting");
  return html`<ul class="rows">${value.map((version) => html`<${Row} key=${version.version} name=${name} version=${version} action=${action} remove=${() => remove(version)}
      pointing=${Object.keys(aliases).filter((alias) => aliases[alias] === version.version)} newest=${version.version === adapter.version} />`)}</ul>
    ${versions.length > most && html`<button type="button" onClick=${() => setMost(most + AT_ONCE)}>Show older versions</button>`}`;
}

function Row({ name, version: { version, created_at, size_bytes, owner, signed_by, manifest, digest }, pointing, newest, action, remove }) {
  const test = manifest.training?.metrics?.test;
  const get = () => action.run(() => download(`${pathOf(name)}/file?version=${version}`, `${name}-${version}.safetensors`), "Downloading");
  return html`<li title=${digest}>
    <div class="main">
      <b>Version ${version}</b> ${newest && html`<${Badge} kind="good" title="${name} without a version means this one">newest<//> `}
      ${pointing.map((alias) => html`<${Badge} key=${alias} kind="busy">${alias}<//> `)}
      <div class="quiet"><${When} at=${created_at} />${byWhom(owner)}, ${bytes(size_bytes)}${signed_by ? `, signed by ${signed_by}` : ""}</div>
    </div>
    ${test?.balanced_accuracy !== undefined && html`<div class="accuracy"><span class="quiet">right on ${test.count} test images</span>
      <${Meter} label="Balanced accuracy of version ${version} on its test images" value=${test.balanced_accuracy} /></div>`}
    <div class="end">
      <button type="button" disabled=${action.busy} aria-label="Download version ${version}" onClick=${get}>Download</button>
      <${Asks} label="Delete version ${version}" title="Delete version ${version} of ${name}?" yes="Delete" disabled=${action.busy} act=${remove}>
        ${newest ? `Requests for ${name} get the version before it. ` : ""}${pointing.length ? `The alias ${pointing.join(", ")} goes with it. ` : ""}You can undo this.
      <//>
    </div>
  </li>`;
}
