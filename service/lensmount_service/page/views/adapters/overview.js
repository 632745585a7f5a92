/** What an adapter is for, how right it was, what it promises, and how it is used. */

import { html } from "../../lib/html.js";
import { get, send } from "../../lib/api.js";
import { Facts, Outcome, Part, Table, useAction } from "../../lib/controls.js";
import { ProblemBox, Waiting, number, percent, plural, useAsked } from "../../lib/parts.js";
import { useSession } from "../../lib/session.js";
import { titleOf } from "../../lib/titles.js";
import { When, byWhom, bytes, duration, listed, share } from "../../lib/words.js";
import { promisesOf } from "./promises.js";
import { isPublic, methodWords, pathOf, tierWords, troubleOf } from "./words.js";


export default function Overview({ adapter, changed }) {
  const { manifest, trust, labels } = adapter;
  const training = manifest.training ?? {};
  const data = training.data ?? {};
  return html`
    <${Trouble} adapter=${adapter} changed=${changed} />
    <${Part} title="What it is">
      ${manifest.description && html`<p>${manifest.description}</p>`}
      <${Facts} rows=${[
        [plural(labels.length, "label"), listed(labels.map((label) => titleOf(adapter, label)), 40)],
        ["Meant for", manifest.intended_use],
        ["Not for", manifest.limits],
        ["Made by", manifest.author],
        ["Licence", manifest.license],
        ["Imported from", training.import && [training.import.tool, training.import.source].filter(Boolean).join(", ")],
        ["Trained on", data.images && `${plural(data.images, "image")}${data.name ? ` of ${data.name}` : ""}: ${countsOf(data.classes)}`],
        ["Training took", training.seconds && duration(training.seconds)],
        ["Changes", methodWords(adapter.method)],
        ["Works with", adapter.backbone.name],
        ["Size", bytes(adapter.size_bytes)],
        ["Kept", adapter.status === "ready" ? tierWords(adapter.tier) : null],
        ["Uploaded", html`<${When} at=${adapter.created_at} />${byWhom(adapter.owner)}`],
        ["Signed by", adapter.signed_by],
      ]} />
    <//>
    <${Measured} metrics=${training.metrics} adapter=${adapter} />
    <${Part} title="What it promises">
      <ul class="plain">${promisesOf(trust).map((sentence) => html`<li key=${sentence}>${sentence}</li>`)}</ul>
    <//>
    <${Use} name=${adapter.name} />`;
}

const countsOf = (classes = {}) => listed(Object.entries(classes).map(([label, count]) => `${label} ${number(count)}`), 12);

function Trouble({ adapter, changed }) {
  const { may } = useSession();
  const action = useAction();
  const trouble = troubleOf(adapter);
  if (!trouble && !action.done) return null;
  const release = () =>
    action.run(async () => {
      await send("POST", `${pathOf(adapter.name)}/versions/${adapter.version}/release`);
      await changed();
      return { words: `Version ${adapter.version} is computed again. If it still fails, the server sets it aside once more.` };
    });
  return html`${trouble && html`<div class="problem"><b>${trouble[0]}</b><p>${trouble[1]}</p>
      ${adapter.status === "quarantined" && may("upload") && !isPublic(adapter.name) && html`<button type="button" onClick=${release}>Try version ${adapter.version} again</button>`}
    </div>`}
    <${Outcome} action=${action} reload=${changed} />`;
}

/** The figures on images that training never saw: those of the test part, or else of the validation part. */
function Measured({ metrics, adapter }) {
  const part = metrics?.test?.count ? "test" : "validation";
  const found = metrics?.[part];
  if (!found?.count) {
    return html`<${Part} title="How right it was"><p class="quiet">The file does not say: it has no figures of images that training never saw.</p><//>`;
  }
  const right = found.accuracy === undefined ? null : Math.round(found.accuracy * found.count);
  return html`<${Part} title="How right it was">
    ${right !== null && html`<p>Of ${plural(found.count, "image")} that ${part === "test" ? "training never saw" : "chose the best epoch"}, it classified <b>${number(right)}</b> correctly (${share(found.accuracy)}).</p>`}
    ${found.classes && html`<${Table} label="Figures for each label" columns=${["Label", "Images", "Found", "Right when named"]}
      rows=${found.classes.map(({ label, count, recall, precision }) => [titleOf(adapter, label), number(count), percent(recall ?? 0), percent(precision ?? 0)])} />
    <p class="quiet">Found: the part of the images of a label that got it. Right when named: the part of the answers with a label that were right.</p>`}
  <//>`;
}

function Use({ name }) {
  const { value, problem, reload } = useAsked(() => get(`${pathOf(name)}/stats`), [name]);
  return html`<${Part} title="How it is used" side=${html`<button type="button" onClick=${reload}>Refresh</button>`}>
    ${problem && html`<${ProblemBox} problem=${problem} again=${reload} />`}
    ${!value && !problem && html`<${Waiting} />`}
    ${value && html`<${Used} stats=${value} />`}
  <//>`;
}

function Used({ stats: { since, requests, images, decisions, mean_ms, last_used } }) {
  const failed = Object.entries(requests).filter(([status]) => Number(status) >= 400);
  if (!Object.keys(requests).length) {
    return html`<p class="quiet">Nobody has asked it by this name since the server started (<${When} at=${since} />).</p>`;
  }
  const total = Object.values(decisions).reduce((sum, count) => sum + count, 0);
  const decided = (word) => total > 0 && `${number(decisions[word] ?? 0)} (${share((decisions[word] ?? 0) / total)})`;
  return html`<${Facts} rows=${[
      ["Images answered", number(images)],
      ["Sure", decided("accept")],
      ["Not sure", decided("uncertain")],
      ["Unlike its images", decided("unfamiliar")],
      ["Mean time", mean_ms === null ? null : `${number(Math.round(mean_ms))} ms a request`],
      ["Last asked", last_used && html`<${When} at=${last_used} />`],
      ["Failed requests", failed.map(([status, count]) => `${number(count)} with status ${status}`).join(", ")],
    ]} />
    <p class="quiet">Since the server started (<${When} at=${since} />), under this name.</p>`;
}
