/** The review of a dataset: its doubtful labels with thumbnails, and buttons that relabel or exclude each image. */

import { html, useEffect, useState } from "../../lib/html.js";
import { get, send } from "../../lib/api.js";
import { Outcome, Part, useAction } from "../../lib/controls.js";
import { Meter, ProblemBox, Waiting, number, plural, useAsked } from "../../lib/parts.js";
import Thumb from "./thumb.js";
import { datasetPath } from "./words.js";

const POLL_MS = 1000;
const SHOWN = 60; // images of each kind; the API has up to 200
const PHASES = { reading: "reads the images", features: "looks at the images" };

export default function Review({ dataset, editable, changed }) {
  const path = `${datasetPath(dataset.name)}/review?version=${dataset.version}`;
  const { value: kept, problem, reload } = useAsked(() => get(path), [path]);
  const [answer, setAnswer] = useState(null);
  const action = useAction();
  const now = answer ?? kept;
  const looking = ["waiting", "running"].includes(now?.state);
  useEffect(() => {
    if (!looking) return undefined;
    const timer = setTimeout(async () => setAnswer(await get(path).catch(() => ({ ...now }))), POLL_MS);
    return () => clearTimeout(timer);
  }, [now, looking]);
  const start = () => action.run(async () => setAnswer(await send("POST", path)), "Starting");
  const done = looking && now.total ? now.done / now.total : 0;
  return html`<${Part} title="Review the labels">
    ${problem && html`<${ProblemBox} problem=${problem} again=${reload} />`}
    ${!now && !problem && html`<${Waiting} />`}
    ${["none", "failed"].includes(now?.state) && html`<p>The server compares every image with all others, and shows labels that are likely wrong, images unlike all others, and pairs that look alike.</p>
      ${now.state === "failed" && html`<p class="problem">${now.error}</p>`}
      <button type="button" class="primary" disabled=${action.busy} onClick=${start}>Review the labels</button>`}
    ${looking && html`<p role="status">The server ${PHASES[now.phase] ?? "will look at the images"}${now.total ? `: ${number(now.done)} of ${number(now.total)}` : ""} …</p><${Meter} label="How far the review is" value=${done} />`}
    ${now?.state === "done" && html`<${Doubts} dataset=${dataset} review=${now.review} editable=${editable} changed=${changed} />`}
    <${Outcome} action=${action} />
  <//>`;
}

function Doubts({ dataset, review, editable, changed }) {
  const [changes, setChanges] = useState(new Map()); // path to the new label, or null to exclude the image
  const action = useAction();
  const choose = (path, label) =>
    setChanges((before) => {
      const after = new Map(before);
      if (after.has(path) && after.get(path) === label) after.delete(path);
      else after.set(path, label);
      return after;
    });
  const save = () =>
    action.run(async () => {
      const relabel = Object.fromEntries([...changes].filter(([, label]) => label !== null));
      const exclude = [...changes].filter(([, label]) => label === null).map(([path]) => path);
      const latest = { "If-Match": `"${dataset.digest}"` };
      await send("PATCH", `${datasetPath(dataset.name)}/items?version=${dataset.version}`, { relabel, exclude }, latest);
      changed();
    }, "The server makes the new version");
  const first = async () => `The newest version is now ${(await get(datasetPath(dataset.name))).version}, and these changes are for version ${dataset.version}.`;
  const card = (path, words, suggested) => html`<${Card} key=${path + words} dataset=${dataset} path=${path} words=${words} suggested=${suggested} editable=${editable}
    chosen=${changes.has(path) ? { label: changes.get(path) } : null} choose=${choose} />`;
  const labels = review.labels.slice(0, SHOWN).map(({ path, label, quality, suggested }) => card(path, `${label} (${quality.toFixed(2)}), likelier ${suggested}`, suggested));
  const outliers = review.outliers.slice(0, SHOWN).map(({ path, label }) => card(path, label));
  const pairs = review.look_alikes.slice(0, SHOWN).flatMap(({ paths, labels: each }) => paths.map((path, at) => card(path, `${each[at]}, alike: ${paths[1 - at]}`)));
  return html`
    ${review.notes.length > 0 && html`<ul class="plain">${review.notes.map((note) => html`<li key=${note}>${note}</li>`)}</ul>`}
    ${!labels.length && !outliers.length && !pairs.length && html`<p>Nothing is doubtful in ${plural(review.images, "image")}.</p>`}
    <${Section} title="Doubtful labels: ${review.flagged} are likely wrong" items=${labels} />
    <${Section} title="Images unlike all others: ${review.outlier_count}" items=${outliers} />
    <${Section} title="Pairs that are alike: ${review.look_alike_count}" items=${pairs} />
    ${editable && labels.length + outliers.length + pairs.length > 0 && html`<p class="sticky"><button type="button" class="primary" disabled=${!changes.size || action.busy} onClick=${save}>
      ${changes.size ? `Save ${plural(changes.size, "change")} as a new version` : "Save the changes"}</button></p>`}
    <${Outcome} action=${action} first=${first} reload=${changed} />`;
}

const Section = ({ title, items }) => items.length > 0 && html`<h4>${title}</h4><ol class="doubts">${items}</ol>`;

function Card({ dataset: { name, version }, path, words, suggested, editable, chosen, choose }) {
  const button = (text, label) =>
    html`<button type="button" aria-pressed=${chosen !== null && chosen.label === label} onClick=${() => choose(path, label)}>${text}</button>`;
  return html`<li>
    <${Thumb} name=${name} version=${version} path=${path} />
    <p class="quiet" title=${path}>${path}</p>
    <p>${words}</p>
    ${editable && suggested !== undefined && button(`Relabel as ${suggested}`, suggested)}
    ${editable && button("Exclude", null)}
  </li>`;
}
