/** One job: what it does now, its curves, its verdict, why it failed, its log and its files. */

import { html, useEffect, useState } from "../../lib/html.js";
import { get, send } from "../../lib/api.js";
import { Asks, Facts, Outcome, Part, useAction } from "../../lib/controls.js";
import { follow } from "../../lib/events.js";
import { Meter, ProblemBox, Waiting, number, useAsked } from "../../lib/parts.js";
import { address } from "../../lib/route.js";
import { useSession } from "../../lib/session.js";
import { When, byWhom, duration } from "../../lib/words.js";
import Files from "./files.js";
import Learning from "./learning.js";
import { StateBadge } from "./list.js";
import Log, { lineOf } from "./log.js";
import NoWorker from "./no_worker.js";
import Result from "./result.js";
import { doing, isActive, partDone, reasonOf } from "./words.js";

export default function One({ id }) {
  const session = useSession();
  const path = `jobs/${encodeURIComponent(id)}`;
  const { value: job, problem, reload } = useAsked(() => get(path), [id]);
  const live = useLive(path, job?.attempt, reload);
  const action = useAction();
  const crumb = html`<p class="crumb"><a href=${address("jobs")}>All jobs</a></p>`;
  if (problem) return html`${crumb}<h2>Job</h2><${ProblemBox} problem=${problem} again=${reload} />`;
  if (!job) return html`${crumb}<h2>Job</h2><${Waiting} />`;
  const now = { ...job, progress: live.progress ?? job.progress };
  const change = (method, suffix, words) =>
    action.run(async () => {
      await send(method, `${path}${suffix}`);
      reload();
      live.restart();
      return { words };
    });
  return html`${crumb}
    <div class="view-head">
      <h2>${job.adapter}${job.alias ? `:${job.alias}` : ""}</h2>
      <${StateBadge} job=${job} />
      <div class="side">
        ${isActive(job) && !job.cancel_requested && html`<${Asks} label="Cancel the job" title="Cancel this job?" yes="Cancel the job" disabled=${action.busy}
          act=${() => change("DELETE", "", "The job is being cancelled.")}>${job.kind === "predict" ? "What it has labelled is kept until you start it again." : "What it has learned so far is lost. You can start it again."}<//>`}
        ${["failed", "cancelled"].includes(job.state) && html`<button type="button" class="primary" disabled=${action.busy} onClick=${() => change("POST", "/retry", job.kind === "predict" ? "The job waits again." : "The job waits for a worker again.")}>Try again</button>`}
      </div>
    </div>
    <${Outcome} action=${action} reload=${reload} />
    ${job.state === "queued" && job.workers === 0 && html`<${NoWorker} />`}
    ${job.state === "queued" && job.workers !== 0 && html`<p class="said"><span>${job.kind === "predict" ? "It waits for its turn on the server." : "It waits for a free worker."}</span></p>`}
    ${job.state === "running" && html`<${Part} title="Now">
      <p role="status">${job.cancel_requested ? "Stopping at the next step" : doing(now)}</p>
      <${Meter} label="How far it is" value=${partDone(now)} />
      ${live.lost && html`<p class="quiet">The connection is lost; the page tries again.</p>`}
    <//>`}
    ${job.error && html`<div class="problem"><b>${reasonOf(job.error)}</b><p>${job.error.message}</p><code>${job.error.code}</code></div>`}
    <${Result} job=${job} predicts=${session.may("predict")} />
    <${Learning} epochs=${live.epochs.length ? live.epochs : job.history} most=${job.progress?.epochs} />
    <${Part} title="What it was asked to do"><${Asked} job=${job} /><//>
    <${Log} lines=${live.lines} live=${isActive(job)} />
    ${job.result?.rows !== undefined && html`<${Part} title="Result"><p>${number(job.result.images)} images${job.result.failed ? `, ${number(job.result.failed)} of which cannot be read` : ""}: ${number(job.result.rows)} rows in results.jsonl.</p><//>`}
    ${!isActive(job) && html`<${Files} path=${path} adapter=${job.adapter} />`}`;
}

/** The events of a job as they come: {progress, epochs, lines, lost, restart()}. `changed` is called at each new state. */
function useLive(path, attempt, changed) {
  const [turn, setTurn] = useState(0);
  const [found, setFound] = useState({ epochs: [], lines: [], progress: null, lost: false });
  useEffect(() => {
    const abort = new AbortController();
    const held = { epochs: new Map(), lines: [], progress: null, lost: false };
    let due = 0;
    const show = () => {
      due ||= requestAnimationFrame(() => {
        due = 0;
        setFound({ ...held, epochs: [...held.epochs.values()], lines: [...held.lines] });
      });
    };
    const event = (kind, data) => {
      if (kind === "progress") held.progress = data;
      if (kind === "epoch") held.epochs.set(data.epoch, data);
      if (kind === "state" || kind === "end") changed();
      const line = lineOf(kind, data);
      if (line) held.lines.push(line);
      show();
    };
    follow(`${path}/events`, { event, lost: (lost) => ((held.lost = lost), show()), signal: abort.signal }).catch(() => {});
    return () => {
      abort.abort();
      cancelAnimationFrame(due);
    };
  }, [path, turn]);
  return { ...found, restart: () => setTurn((before) => before + 1) };
}

function Asked({ job }) {
  const { dataset, hyper_parameters: options, attempt, max_attempts: most, created_at, started_at, finished_at, owner, canary, alias, adapter } = job;
  const took = started_at && finished_at ? duration((new Date(finished_at) - new Date(started_at)) / 1000) : null;
  return html`<${Facts} rows=${[
      ["Dataset", html`<a href=${address("datasets", [dataset.name])}>${dataset.name}</a> version ${dataset.version}`],
      job.kind === "predict" ? ["Adapters", options.adapters.map(({ asked, version }) => `${asked} (version ${version})`).join(", ")] : ["Result goes to", alias ? (canary ? `a canary with ${canary} % of the requests by ${adapter}:${alias}` : `${adapter}:${alias}`) : adapter],
      ["Epochs", options.epochs && number(options.epochs)],
      ["Asked for", html`<${When} at=${created_at} />${byWhom(owner)}`],
      ["Took", took],
      ["Attempt", attempt ? `${attempt} of ${most}` : null],
    ]} />
    ${job.kind !== "predict" && html`<details><summary>All options</summary><${Facts} rows=${Object.entries(options).filter(([, value]) => value !== null && value !== "").map(([key, value]) => [key.replaceAll("_", " "), String(value)])} /></details>`}`;
}
