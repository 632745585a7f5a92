/** From the images on the page to a live adapter: send them, solve a first draft, start the training job. */

import { asProblem, send } from "../../lib/api.js";
import { address } from "../../lib/route.js";
import { enough, taught } from "./advice.js";
import { sendDataset } from "./sending.js";
import { task } from "./task.js";

/** Runs whatever view is shown meanwhile; `task.state.run` says how far it is, in values that IndexedDB can keep. */
export async function teach(session) {
  const { name, options, images } = task.state;
  const classes = taught(task.state).filter(({ count }) => count);
  const train = enough(task.state);
  const started = performance.now();
  const note = noteOf(started);
  task.change({ run: { started, name, options, phase: "sending", share: 0 } });
  try {
    const sent = await sendDataset({ name, classes, images }, session.limits, (share) => note({ share }));
    const { version, report } = sent;
    note({ phase: "drafting", sent: { version, images: sent.images, remarks: [...report.warnings.map(({ message }) => message), ...report.notes] } });
    const live = session.adapters.find((adapter) => adapter.name === name);
    if (live && !live.draft) note({ kept: live.version, others: !sameClasses(live, classes) }); // a draft replaces only drafts
    else await draft(name, version, note, started);
    session.reload();
    if (task.state.run?.started !== started) return;
    if (train) await startTraining(session);
    else note({ phase: "drafted" });
  } catch (error) {
    note({ phase: "stopped", problem: { ...asProblem(error) } });
  }
}

/** Changes the run that began then; nothing if the user has started over since. */
const noteOf = (started) => (fields) => task.state.run?.started === started && task.change({ run: { ...task.state.run, ...fields } });

const sameClasses = (adapter, classes) =>
  adapter.labels.toSorted().join("\n") === classes.map(({ name }) => name.trim()).toSorted().join("\n");

async function draft(name, version, note, started) {
  const query = new URLSearchParams({ adapter: name, version });
  try {
    const made = await send("POST", `datasets/${encodeURIComponent(name)}/draft?${query}`);
    note({ draft: { version: made.version, ...made.draft, after: (performance.now() - started) / 1000 } });
  } catch (error) {
    note({ draftProblem: { ...asProblem(error) } }); // training is possible all the same
  }
}

/** Starts the job on what was sent, and puts it into the address, so that a reload and a link find it. */
export async function startTraining(session) {
  const { started, name, options, sent, others } = task.state.run;
  const note = noteOf(started);
  note({ phase: "submitting", jobProblem: null });
  try {
    const dataset = `${name}@${sent.version}`;
    const force = Boolean(others); // the version of other classes cannot be compared with the new one
    const job = await send("POST", "jobs", { ...options, dataset, adapter: name, force });
    note({ phase: "training", jobId: job.id });
    if (location.hash.startsWith("#/teach") && task.state.run?.jobId === job.id) location.replace(address("teach", [name], { job: job.id }));
  } catch (error) {
    note({ phase: "drafted", jobProblem: { ...asProblem(error) } });
  }
}
