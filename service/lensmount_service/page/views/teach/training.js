/** One training job, live: what it does now, its curves, how long it takes, and what came of it. */

import { html, useEffect, useState } from "../../lib/html.js";
import { asProblem, get, send } from "../../lib/api.js";
import { follow } from "../../lib/events.js";
import { ProblemBox, Waiting } from "../../lib/parts.js";
import { Curves } from "./curves.js";
import { Outcome } from "./outcome.js";
import "./style.js";

const QUEUE_MS = 3000; // how often a waiting job is asked whether a worker is there
const PHASES = {
  searching: "Trying which settings suit the images",
  caching: "Preparing the images",
  training: "Training",
  calibrating: "Measuring how far its answers can be trusted",
  judging: "Comparing it with the version that answers now",
  reporting: "Writing the report",
  publishing: "Going live",
};

/** `ended(job)` is called once, when the job has ended. */
export function Training({ id, ended }) {
  const { job, history, progress, lost, problem, again } = useJob(id, ended);
  if (problem) return html`<${ProblemBox} problem=${problem} />`;
  if (!job) return html`<${Waiting}>Looking for the training job<//>`;
  const epochs = progress?.epochs ?? history.length;
  return html`<div class="training">
    ${lost && html`<p class="quiet" role="status">The connection is lost. The training goes on, and this page tries to come back.</p>`}
    ${job.state === "queued" && html`<${Queued} job=${job} />`}
    ${job.state === "running" && html`<${Running} job=${job} progress=${progress} history=${history} />`}
    <${Curves} history=${history} epochs=${epochs} />
    ${job.state === "succeeded" && html`<${Outcome} job=${job} />`}
    ${["failed", "cancelled"].includes(job.state) && html`<${Ended} job=${job} again=${again} />`}
  </div>`;
}

/** {job, history, progress, lost, problem} of the job, as the server tells it; `again()` starts over after a retry. */
function useJob(id, ended) {
  const [state, setState] = useState({ history: [] });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    const path = `jobs/${encodeURIComponent(id)}`;
    const note = (fields) => !stop.signal.aborted && setState((before) => ({ ...before, ...fields }));
    const fresh = async () => {
      const job = await get(path);
      note({ job });
      return job;
    };
    const failed = (error) => note({ problem: asProblem(error) });
    const waiting = setInterval(() => setState((before) => (before.job?.state === "queued" && fresh().catch(() => {}), before)), QUEUE_MS);
    const event = (kind, data) => {
      if (kind === "progress") note({ progress: data });
      else if (kind === "epoch") setState((before) => ({ ...before, history: [...before.history.filter(({ epoch }) => epoch < data.epoch), data] }));
      else if (kind === "state") fresh().catch(failed);
      else if (kind === "end") fresh().then(ended, failed);
    };
    setState({ history: [] });
    fresh().then(() => follow(`${path}/events`, { event, signal: stop.signal, lost: (lost) => note({ lost }) })).catch(failed);
    return () => {
      stop.abort();
      clearInterval(waiting);
    };
  }, [id, turn]);
  return { ...state, again: () => setTurn((before) => before + 1) };
}

function Queued({ job }) {
  if (job.workers) return html`<p class="waiting" role="status">Waiting for its turn …</p><${Cancel} job=${job} />`;
  return html`<div class="hint" role="status">
    <p><b>No worker is running, so the training waits.</b> Start one on the server's machine, or ask the person who runs it:</p>
    <pre>lensmount worker</pre>
    <p class="quiet">A server that is started with <code>lensmount serve --with-worker</code> has its own. You can leave this page; the job keeps its place.</p>
    <${Cancel} job=${job} />
  </div>`;
}

function Running({ job, progress, history }) {
  const phase = progress?.phase ?? "caching";
  const share = progress?.epochs ? (phase === "training" || phase === "caching" ? history.length / progress.epochs : 1) : 0;
  return html`<div class="running">
    <p role="status">${PHASES[phase] ?? phase}${phase === "training" || history.length ? `, round ${Math.min(history.length + 1, progress?.epochs ?? 1)} of ${progress?.epochs}` : ""}</p>
    <span class="quiet">${left(progress?.seconds_left)}</span>
    <div class="meter" role="progressbar" aria-label="Training" aria-valuemin="0" aria-valuemax="100" aria-valuenow=${Math.round(100 * share)}>
      <div style=${{ width: `${100 * share}%` }}></div>
    </div>
    <${Cancel} job=${job} />
  </div>`;
}

function left(seconds) {
  if (seconds == null) return "";
  if (seconds < 90) return `about ${Math.max(1, Math.round(seconds))} s left`;
  return seconds < 5400 ? `about ${Math.round(seconds / 60)} min left` : `about ${(seconds / 3600).toFixed(1)} h left`;
}

function Cancel({ job }) {
  const [problem, setProblem] = useState(null);
  const cancel = () => send("DELETE", `jobs/${encodeURIComponent(job.id)}`).catch((error) => setProblem(asProblem(error)));
  return html`<button type="button" onClick=${cancel} disabled=${job.cancel_requested}>Stop the training</button>
    ${problem && html`<${ProblemBox} problem=${problem} />`}`;
}

function Ended({ job, again }) {
  const [problem, setProblem] = useState(null);
  const retry = async () => {
    try {
      await send("POST", `jobs/${encodeURIComponent(job.id)}/retry`);
      again();
    } catch (error) {
      setProblem(asProblem(error));
    }
  };
  return html`<div class="problem" role="alert">
    <b>${job.state === "failed" ? "The training failed" : "The training was stopped"}</b>
    ${job.error && html`<p>${job.error.message}</p><code>${job.error.code}</code>`}
    <button type="button" onClick=${retry}>Train again</button>
    ${problem && html`<${ProblemBox} problem=${problem} />`}
  </div>`;
}
