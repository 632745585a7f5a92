/** What an answer is worth, in plain words; the command line says the same. */

import { html } from "./html.js";

const NAMED = 3; // labels of a set that are named
const SURE = "sure";
const NOT_SURE = "not sure";
const UNLIKE = "unlike the images this was trained on";
const NOT_MEASURED = "reliability not measured"; // nothing says how often such an answer is right
const words = {
  accept: () => SURE,
  uncertain: ({ set }, title) => (set?.length ? `${NOT_SURE}: ${anyOf(set.map(title))}` : NOT_SURE),
  unfamiliar: () => UNLIKE,
  unmeasured: () => NOT_MEASURED,
};

/** A decision in words, without its labels. */
export const DECISIONS = { accept: SURE, uncertain: NOT_SURE, unfamiliar: UNLIKE, unmeasured: NOT_MEASURED };

/**
 * The decision of a `trust`, or "unmeasured" for an accepted answer of an adapter that knows what its training images look like,
 * but had too few images to measure how often it is right.
 */
export const decisionOf = (trust) => (trust?.decision === "accept" && !trust.set && !trust.calibration ? "unmeasured" : trust?.decision);

/** The `trust` of a prediction in words; `title(label)` is how a label is shown. */
export const trustWords = (trust, title = (label) => label) => words[decisionOf(trust)]?.(trust, title) ?? trust.decision;

/** A badge for the `trust` of a prediction, or nothing for an adapter that promises nothing about its answers. */
export function Trust({ trust, title }) {
  if (!trust) return null;
  return html`<p class=${`trust ${decisionOf(trust)}`} title=${details(trust)}>${trustWords(trust, title)}</p>`;
}

/** "a", "a or b", "a, b or c", "a, b, c or 2 others" */
function anyOf(labels) {
  const rest = labels.length - NAMED;
  const names = rest > 0 ? [...labels.slice(0, NAMED), `${rest} other${rest > 1 ? "s" : ""}`] : labels;
  return [names.slice(0, -1).join(", "), names.at(-1)].filter(Boolean).join(" or ");
}

/** What the words rest on. */
export function details(trust) {
  const { unfamiliarity, calibration } = trust;
  const parts = [];
  if (unfamiliarity) {
    parts.push(`More unlike the training images than ${unfamiliarity.percentile.toFixed(1)} % of the images kept aside.`);
  }
  if (calibration) parts.push(`Measured on ${calibration.images} images kept aside.`);
  if (decisionOf(trust) === "unmeasured") parts.push("Training had too few images to measure how often such an answer is right.");
  return parts.join(" ");
}
