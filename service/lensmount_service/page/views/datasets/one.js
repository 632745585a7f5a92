/** One dataset: what is in it, what to check, its review, its versions, and the way to train on it. */

import { html, useState } from "../../lib/html.js";
import { get, send, tagged } from "../../lib/api.js";
import { Asks, Facts, Outcome, Part, Table, useAction } from "../../lib/controls.js";
import { download } from "../../lib/download.js";
import { Meter, ProblemBox, Waiting, number, plural, useAsked } from "../../lib/parts.js";
import { address } from "../../lib/route.js";
import { When, byWhom, bytes } from "../../lib/words.js";
import Findings from "./findings.js";
import Review from "./review.js";
import Train from "./train.js";
import Upload from "./upload.js";
import { datasetPath } from "./words.js";

const MOST = 40; // classes that have a bar

export default function One({ name }) {
  const [version, setVersion] = useState(null); // null is the newest
  const [newest, setNewest] = useState(0);
  const { value, problem, reload } = useAsked(async () => {
    const found = await tagged(`${datasetPath(name)}${version ? `?version=${version}` : ""}`);
    if (!version) setNewest(found.value.version);
    return found;
  }, [name, version]);
  const changed = () => (version ? setVersion(null) : reload());
  const crumb = html`<p class="crumb"><a href=${address("datasets")}>All datasets</a></p>`;
  if (problem) {
    return html`${crumb}<h2>${name}</h2><${ProblemBox} problem=${problem} again=${reload} />
      ${version && html`<button type="button" onClick=${() => setVersion(null)}>Show the newest version</button>`}`;
  }
  if (!value) return html`${crumb}<h2>${name}</h2><${Waiting} />`;
  const dataset = value.value;
  const own = !name.startsWith("public/");
  return html`${crumb}
    <div class="view-head" id="dataset">
      <h2>${name}</h2>
      <span class="quiet">version ${dataset.version}</span>
      ${newest > 1 && html`<label class="check quiet">Show <select aria-label="Version" value=${dataset.version} onChange=${({ target }) => setVersion(Number(target.value))}>
        ${Array.from({ length: newest }, (_, index) => newest - index).map((each) => html`<option key=${each} value=${each}>version ${each}</option>`)}
      </select></label>`}
    </div>
    <${Train} dataset=${dataset} pinned=${dataset.version !== newest} />
    <${Content} dataset=${dataset} />
    <${Findings} dataset=${dataset} />
    <${Review} key=${dataset.digest} dataset=${dataset} editable=${own} changed=${changed} />
    ${own && html`<${Part} title="Add a version"><${Upload} name=${name} changed=${changed} /><//>`}
    <${Manage} dataset=${dataset} tag=${value.tag} newest=${newest} own=${own} changed=${changed} />`;
}

function Content({ dataset: { images, classes, report, size_bytes: size, created_at, owner } }) {
  const counts = Object.entries(classes);
  const most = Math.max(...counts.map(([, count]) => count), 1);
  const { sizes, formats = {}, groups, splits } = report;
  const pixels = (pair) => pair?.join(" × ");
  return html`<${Part} title="What is in it">
    <p>${plural(images, "image")} with ${plural(counts.length, "label")}.</p>
    ${counts.length <= MOST
      ? html`<ul class="bars">${counts.map(([label, count]) => html`<li key=${label}><span>${label}</span><${Meter} label=${label} value=${count / most} /><span class="number">${number(count)}</span></li>`)}</ul>`
      : html`<${Table} label="Images of each label" columns=${["Label", "Images"]} rows=${counts.map(([label, count]) => [label, number(count)])} />`}
    <${Facts} rows=${[
      ["Sizes", sizes?.median && (String(sizes.min) === String(sizes.max) ? `${pixels(sizes.median)} pixels` : `${pixels(sizes.min)} to ${pixels(sizes.max)}, mostly about ${pixels(sizes.median)} pixels`)],
      ["Formats", Object.entries(formats).map(([format, count]) => `${format} ${number(count)}`).join(", ")],
      ["Groups", groups ? `${number(groups)} (patients, slides or sources)` : null],
      ["Parts", splits && Object.entries(splits).map(([part, count]) => `${part} ${typeof count === "object" ? number(count.images ?? 0) : number(count)}`).join(", ")],
      ["Size", bytes(size)],
      ["Stored", html`<${When} at=${created_at} />${byWhom(owner)}`],
    ]} />
  <//>`;
}

function Manage({ dataset: { name, version, digest }, tag, newest, own, changed }) {
  const action = useAction();
  const { value: known, reload } = useAsked(() => get("datasets?public=true"), [digest]);
  const shared = known?.datasets.find((each) => each.digest === digest && each.name !== name)?.name;
  const change = (method, suffix, words, undo) =>
    action.run(async () => {
      await send(method, `${datasetPath(name)}${suffix}`, null, method === "DELETE" && !suffix.startsWith("/") ? { "If-Match": tag } : {});
      reload();
      return { words, undo };
    });
  const back = async (suffix) => {
    await send("POST", `${datasetPath(name)}/undelete${suffix}`);
    changed();
    return { words: "It is back." };
  };
  const first = async () => {
    const latest = await get(datasetPath(name));
    return `Its newest version is now ${latest.version}${byWhom(latest.owner)}.`;
  };
  return html`<${Part} title="Download, share, delete">
    <p class="buttons">
      <button type="button" disabled=${action.busy} onClick=${() => action.run(() => download(`${datasetPath(name)}/file?version=${version}`, `${name.replace("/", "-")}-${version}.zip`), "Downloading")}>Download version ${version}</button>
      ${own && (shared
        ? html`<button type="button" disabled=${action.busy} onClick=${() => change("DELETE", "/shared", "It is shared no longer.")}>Stop sharing</button>`
        : html`<button type="button" disabled=${action.busy} onClick=${() => change("PUT", "/shared", `Everybody on this server can train on public/${name} now.`)}>Share as public/${name}</button>`)}
      ${own && newest > 1 && html`<${Asks} label="Delete version ${version}" title="Delete version ${version} of ${name}?" yes="Delete" disabled=${action.busy}
        act=${() => change("DELETE", `?version=${version}`, `Version ${version} was deleted.`, () => back(`?version=${version}`))}>The other versions stay. You can undo this.<//>`}
      ${own && html`<${Asks} label="Delete ${name}" title="Delete ${name} with all its versions?" yes="Delete it" disabled=${action.busy}
        act=${() => change("DELETE", "", `${name} was deleted.`, () => back(""))}>Adapters that were trained on it stay. You can undo this.<//>`}
    </p>
    ${shared && html`<p class="quiet">Everybody on this server can train on it as <b>${shared}</b>.</p>`}
    <${Outcome} action=${action} first=${first} reload=${changed} />
  <//>`;
}
