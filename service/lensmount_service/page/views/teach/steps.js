/** How far a task has come: sent, first draft, training. */

import { html, useEffect, useRef } from "../../lib/html.js";
import { percent, plural, ProblemBox } from "../../lib/parts.js";
import { enough } from "./advice.js";
import { task } from "./task.js";
import { startTraining } from "./teaching.js";
import { Training } from "./training.js";
import { Trial } from "./trial.js";

export function Steps({ state, session }) {
  const { run } = state;
  const heading = useRef();
  useEffect(() => run.phase === "sending" && heading.current.focus(), []);
  const asked = run.draft || run.kept || run.trained;
  return html`<section class="steps" aria-labelledby="steps-title">
    <h3 id="steps-title" ref=${heading} tabindex="-1">Teaching ${run.name}</h3>
    ${run.phase === "stopped" && html`<${ProblemBox} problem=${run.problem} />`}
    <ol>
      <${Sent} run=${run} />
      <${Draft} run=${run} />
      <${Job} run=${run} state=${state} session=${session} />
    </ol>
    ${asked && html`<${Trial} name=${run.name} title=${answering(run)} />`}
  </section>`;
}

function answering(run) {
  if (run.trained) return `Version ${run.trained}`;
  return run.draft ? `The first draft from ${plural(run.draft.images, "image")}` : `Version ${run.kept}`;
}

function Sent({ run: { phase, share, sent } }) {
  if (phase === "sending") return html`<${Step} state="now" title=${`Sending the images${share ? `, ${Math.round(100 * share)} %` : ""} …`} />`;
  if (!sent) return html`<${Step} state="failed" title="The images were not sent" />`;
  return html`<${Step} state="done" title=${`${plural(sent.images, "image")} sent`}>
    ${sent.remarks.length > 0 && html`<details>
      <summary>${plural(sent.remarks.length, "remark")} about the images</summary>
      <ul>${sent.remarks.map((text) => html`<li>${text}</li>`)}</ul>
    </details>`}
  <//>`;
}

function Draft({ run: { phase, draft, draftProblem, kept, others } }) {
  if (phase === "sending" || (phase === "stopped" && !draft)) return html`<${Step} state="later" title="First draft" />`;
  if (draftProblem) return html`<${Step} state="failed" title="There is no first draft"><${ProblemBox} problem=${draftProblem} /><//>`;
  if (kept) return html`<${Step} state="done" title=${`Version ${kept} answers until the new one is trained`}>
    ${others && html`<p class="quiet">It tells other classes apart. The new version replaces it as soon as it is trained.</p>`}
  <//>`;
  if (!draft) return html`<${Step} state="now" title="Making a first draft …" />`;
  return html`<${Step} state="done" title=${`First draft live ${draft.after < 10 ? draft.after.toFixed(1) : Math.round(draft.after)} s after you pressed Teach`}>
    <p class="quiet">It is a first draft from ${plural(draft.images, "image")}.
      ${draft.balanced_accuracy != null && ` Asked about images that it was not shown, it was right ${percent(draft.balanced_accuracy)} of the time.`}</p>
  <//>`;
}

function Job({ run, state, session }) {
  const { phase, jobId, jobProblem } = run;
  if (jobId) {
    const ended = (job) => {
      if (job.result?.published && task.state.run?.jobId === jobId) task.change({ run: { ...task.state.run, trained: job.result.adapter.version } });
      session.reload();
    };
    return html`<${Step} state=${run.trained ? "done" : "now"} title="Training"><${Training} id=${jobId} ended=${ended} /><//>`;
  }
  if (phase !== "drafted") return html`<${Step} state=${phase === "submitting" ? "now" : "later"} title="Training" />`;
  return html`<${Step} state="later" title="Training">
    ${jobProblem
      ? html`<${ProblemBox} problem=${jobProblem} />`
      : html`<p>Training makes it better, and needs about 20 images of each class. Add more below and press Teach again${enough(state) ? "" : ", or try with these"}.</p>`}
    <button type="button" onClick=${() => startTraining(session)}>Train with these images</button>
  <//>`;
}

function Step({ state, title, children }) {
  const words = { done: "done", now: "under way", later: "to come", failed: "failed" };
  return html`<li class=${state}>
    <p class="step-title"><span class="mark" role="img" aria-label=${words[state]}></span><span role=${state === "now" ? "status" : undefined}>${title}</span></p>
    ${children}
  </li>`;
}
