/** What the states, phases and failures of jobs mean. */

import { address } from "../../lib/route.js";
import { duration } from "../../lib/words.js";

export const jobLink = (id) => address("jobs", [id]);

export const STATES = {
  queued: ["waiting", "unsure"],
  running: ["training", "busy"],
  succeeded: ["done", "good"],
  failed: ["failed", "wrong"],
  cancelled: ["cancelled", ""],
};

export const isActive = ({ state }) => state === "queued" || state === "running";

/** The word and the kind of a job's state: one that predicts does not train. */
export const stateOf = ({ state, kind }) => (kind === "predict" && state === "running" ? ["labelling", "busy"] : STATES[state]);

const PHASES = {
  predicting: "Labelling",
  searching: "Trying which method suits the images",
  caching: "Reading the images",
  training: "Training",
  calibrating: "Measuring how far its answers can be trusted",
  judging: "Comparing it with the present version",
  reporting: "Writing the report",
  publishing: "Publishing the adapter",
};

/** What a running job does now, in words: "Training: epoch 3 of 8, about 40 s left" */
export function doing({ progress }) {
  if (!progress) return "Starting";
  const { phase, epoch, epochs, step, steps, seconds_left: left } = progress;
  if (phase === "predicting") return `Labelling: ${step} of ${steps} images${left ? `, about ${duration(Math.ceil(left))} left` : ""}`;
  const training = phase === "training" && epoch ? `: epoch ${epoch} of ${epochs}${left ? `, about ${duration(Math.ceil(left))} left` : ""}` : "";
  return `${PHASES[phase] ?? phase ?? "Training"}${training}`;
}

/** How far a running job is, from 0 to 1; the phases after training have no share of their own. */
export function partDone({ progress }) {
  const { phase, epoch, epochs, step = 0, steps } = progress ?? {};
  if (["judging", "reporting", "publishing"].includes(phase)) return 1;
  if (!epoch || !epochs) return 0;
  return Math.min(1, (epoch - 1 + (steps ? step / steps : 0)) / epochs);
}

const REASONS = {
  worker_lost: "The process that trained it ended unexpectedly, each time it was tried. The usual reason is too little memory.",
  server_away: "The worker could not reach the server for a long time.",
  attempt_failed: "Training stopped with an error, each time it was tried.",
  training_failed: "It cannot be trained like this.",
  dataset_invalid: "Its images cannot be trained on as they are.",
  dataset_not_found: "Its images are no longer there.",
  adapter_norm_limit: "Training went out of bounds: it changed the network far more than a useful adapter does. A lower learning rate helps.",
  backbone_mismatch: "The worker has another network than the server.",
  storage_full: "The disk is full.",
};

/** Why a job failed: the sentence for its code, if there is one; the server's own message is shown below it. */
export const reasonOf = ({ code }) => REASONS[code] ?? "It stopped with an error.";

/** What the comparison with the present version decided, as [kind, title, sentence]; null before it. */
export function verdictOf({ result, adapter, alias, canary }) {
  const { gate, published, adapter: made } = result ?? {};
  if (!gate) return null;
  const target = alias ? `${adapter}:${alias}` : adapter;
  if (published) {
    const how = canary && alias ? `It is tried as a canary of ${target}.` : `It answers as ${target} now.`;
    return ["good", `Published as ${made?.name ?? adapter} version ${made?.version}`, `${how} ${sentence(gate.reason)}`];
  }
  return ["wrong", "Not published", `The present version keeps answering: ${gate.reason}. The new adapter is among the files below, and nothing is lost.`];
}

const sentence = (text) => text && `${text[0].toUpperCase()}${text.slice(1)}.`;
