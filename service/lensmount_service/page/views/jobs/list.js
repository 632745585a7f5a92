/** The jobs, newest first. While one waits or runs, the list follows it. */

import { html, useEffect, useState } from "../../lib/html.js";
import { get } from "../../lib/api.js";
import { Badge, Empty, Meter, ProblemBox, Waiting, useAsked } from "../../lib/parts.js";
import { address } from "../../lib/route.js";
import { When } from "../../lib/words.js";
import NoWorker from "./no_worker.js";
import { doing, isActive, jobLink, partDone, stateOf, verdictOf } from "./words.js";

const PAGE = 50;
const EVERY_MS = 2000;
const SHOWN = { "": "All", queued: "Waiting", running: "Training", succeeded: "Done", failed: "Failed", cancelled: "Cancelled" };

export default function List() {
  const [state, setState] = useState("");
  const [older, setOlder] = useState([]);
  const [more, setMore] = useState(true);
  const query = (before) => `jobs?${new URLSearchParams({ limit: PAGE, ...(state && { state }), ...(before && { before }) })}`;
  const { value, problem, reload } = useAsked(() => get(query()), [state]);
  const newest = value?.jobs ?? [];
  const known = new Set(newest.map(({ id }) => id));
  const jobs = [...newest, ...older.filter(({ id }) => !known.has(id))];
  const active = newest.some(isActive);
  useEffect(() => {
    if (!active) return undefined;
    const timer = setInterval(() => document.hidden || reload(), EVERY_MS);
    return () => clearInterval(timer);
  }, [active, state]);
  const choose = (next) => {
    setOlder([]);
    setMore(true);
    setState(next);
  };
  const showOlder = async () => {
    const found = (await get(query(jobs.at(-1).id))).jobs;
    setMore(found.length === PAGE);
    setOlder([...older, ...found]);
  };
  return html`<div class="view-head"><h2>Jobs</h2>
      <div class="side"><button type="button" onClick=${reload}>Refresh</button><a class="button" href=${address("teach")}>Teach something new</a></div>
    </div>
    <p class="quiet">A job trains an adapter from a dataset, compares it with the present version, and publishes it if it is no worse.</p>
    <div class="tools"><label class="field">Show<select value=${state} onChange=${({ target }) => choose(target.value)}>
      ${Object.entries(SHOWN).map(([key, title]) => html`<option key=${key} value=${key}>${title}</option>`)}
    </select></label></div>
    ${problem && html`<${ProblemBox} problem=${problem} again=${reload} />`}
    ${!value && !problem && html`<${Waiting} />`}
    ${newest.some(({ state: each, workers }) => each === "queued" && workers === 0) && html`<${NoWorker} />`}
    ${jobs.length > 0 && html`<ul class="rows long" id="job-list">${jobs.map((job) => html`<${Row} key=${job.id} job=${job} />`)}</ul>`}
    ${value && !jobs.length && (state
      ? html`<${Empty} title="No such job">Nothing is ${SHOWN[state].toLowerCase()} now.<//>`
      : html`<${Empty} title="No job yet"><a href=${address("teach")}>Teach the network from your images</a>, or train on a <a href=${address("datasets")}>dataset</a> that is here.<//>`)}
    ${newest.length === PAGE && more && jobs.length > 0 && html`<button type="button" onClick=${showOlder}>Show older jobs</button>`}`;
}

export const StateBadge = ({ job }) => {
  const [word, kind] = job.cancel_requested && job.state === "running" ? ["stopping", "unsure"] : stateOf(job);
  return html`<${Badge} kind=${kind}>${word}<//>`;
};

function Row({ job }) {
  const { id, state, adapter, alias, dataset, created_at, finished_at, error, attempt } = job;
  const verdict = verdictOf(job);
  const accuracy = job.result?.metrics?.test?.balanced_accuracy;
  return html`<li>
    <div class="main">
      <a class="name-link" href=${jobLink(id)}>${adapter}${alias ? `:${alias}` : ""}</a> <${StateBadge} job=${job} />
      ${state === "succeeded" && verdict && html` <${Badge} kind=${verdict[0]}>${job.result.published ? verdict[1].toLowerCase() : "not published"}<//>`}
      <div class="quiet">from ${dataset.name} version ${dataset.version}, <${When} at=${finished_at ?? created_at} />${attempt > 1 ? `, attempt ${attempt}` : ""}</div>
      ${state === "running" && html`<div class="quiet">${doing(job)}</div><${Meter} label="How far ${adapter} is" value=${partDone(job)} />`}
      ${error && html`<div class="quiet">${error.message.split("\n")[0]}</div>`}
    </div>
    ${accuracy !== undefined && html`<div class="accuracy"><span class="quiet">right on test images</span><${Meter} label="Balanced accuracy on the test images" value=${accuracy} /></div>`}
  </li>`;
}
