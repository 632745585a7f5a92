/** The answers of one adapter that people corrected: look at them, change them, and let the adapter learn from them. */

import { html, useState } from "../../lib/html.js";
import { asProblem, get, send } from "../../lib/api.js";
import { plural, ProblemBox, useAsked, Waiting } from "../../lib/parts.js";
import { titleOf } from "../../lib/titles.js";
import { PoolImage } from "./pool_image.js";

export const SUFFIX = "-feedback"; // a pool of corrections has the adapter's name and this
const SHOWN = 60; // corrections, the newest first
const RECENT = 200; // jobs among which the adapter's latest is looked for

/** `adapter` is its entry of GET /adapters, or undefined; `datasets` are names. `started(job)` is called with the new job. */
export function Corrections({ pool, adapter, datasets, person, started }) {
  const name = pool.name.slice(0, -SUFFIX.length);
  return html`<li class="corrections">
    <h4>${name}</h4>
    <p>${plural(pool.labelled, "image")} corrected.</p>
    ${adapter ? html`<${Learn} pool=${pool.name} adapter=${adapter} datasets=${datasets} started=${started} />` : html`<p class="quiet">There is no adapter of this name any more.</p>`}
    <${Look} pool=${pool.name} adapter=${adapter} person=${person} />
  </li>`;
}

/** Makes a version of the corrected images and those that the adapter was trained on, and starts a job as the last one was. */
function Learn({ pool, adapter, datasets, started }) {
  const before = useAsked(async () => (await get(`jobs?state=succeeded&limit=${RECENT}`)).jobs.find((job) => job.adapter === adapter.name), [adapter.name]);
  const [state, setState] = useState({});
  if (before.waiting) return html`<${Waiting} />`;
  const base = before.value?.dataset.name ?? adapter.name;
  const learn = async (event) => {
    event.preventDefault();
    const chosen = new FormData(event.target).get("base");
    setState({ busy: "Putting the images together" });
    try {
      const query = chosen ? `?${new URLSearchParams({ base: chosen })}` : "";
      const made = await send("POST", `datasets/${encodeURIComponent(pool)}/versions${query}`);
      const job = await send("POST", "jobs", { ...before.value?.hyper_parameters, dataset: `${made.name}@${made.version}`, adapter: adapter.name });
      setState({});
      started(job, made);
    } catch (error) {
      setState({ problem: asProblem(error) });
    }
  };
  return html`<form onSubmit=${learn}>
    <label>Together with the images of
      <select name="base">
        ${datasets.map((each) => html`<option key=${each} value=${each} selected=${each === base}>${each}</option>`)}
        <option value="" selected=${!datasets.includes(base)}>no other dataset</option>
      </select>
    </label>
    <button class="primary" disabled=${Boolean(state.busy)}>Retrain from the corrections</button>
    ${state.busy && html`<${Waiting}>${state.busy}<//>`}
    ${state.problem && html`<${ProblemBox} problem=${state.problem} />`}
  </form>`;
}

/** The newest label of each image, with a way to change it: labels are only ever added, and the latest counts. */
function Look({ pool, adapter, person }) {
  const [open, setOpen] = useState(false);
  return html`<details onToggle=${(event) => setOpen(event.target.open)}>
    <summary>Look at the corrections</summary>
    ${open && html`<${List} pool=${pool} adapter=${adapter} person=${person} />`}
  </details>`;
}

function List({ pool, adapter, person }) {
  const path = `datasets/${encodeURIComponent(pool)}/labels`;
  const { value, problem, waiting, reload } = useAsked(() => allLabels(path), [pool]);
  const [failed, setFailed] = useState(null);
  const change = async (digest, label, who) => {
    try {
      await send("POST", path, { who: person || who, labels: { [digest]: label } });
      setFailed(null);
      reload();
    } catch (error) {
      setFailed(asProblem(error));
    }
  };
  if (problem) return html`<${ProblemBox} problem=${problem} again=${reload} />`;
  if (!value) return waiting && html`<${Waiting} />`;
  const latest = [...new Map(value.map((each) => [each.digest, each])).values()].toReversed();
  const labels = adapter?.labels ?? [...new Set(value.map(({ label }) => label))];
  return html`${failed && html`<${ProblemBox} problem=${failed} />`}
    <ul class="thumbs">${latest.slice(0, SHOWN).map(
      ({ digest, label, who }) => html`<li key=${digest}>
        <${PoolImage} pool=${pool} digest=${digest} side=${192} alt=${titleOf(adapter, label)} />
        <label class="quiet">Says ${who}
          <select value=${label} onChange=${(event) => change(digest, event.target.value, who)}>
            ${labels.map((each) => html`<option key=${each} value=${each} selected=${each === label}>${titleOf(adapter, each)}</option>`)}
          </select>
        </label>
      </li>`,
    )}</ul>
    ${latest.length > SHOWN && html`<p class="quiet">The newest ${SHOWN} of ${latest.length} are shown.</p>`}`;
}

async function allLabels(path) {
  const found = [];
  for (;;) {
    const { labels } = await get(`${path}?after=${found.at(-1)?.number ?? 0}`);
    if (!labels.length) return found;
    found.push(...labels);
  }
}
