/** What an adapter promises about its answers, in sentences. */

import { listed, share } from "../../lib/words.js";
import { number } from "../../lib/parts.js";

export const NOTHING = "It promises nothing about its answers: its scores say which label is likelier, and not how likely it is right.";

/** `trust` is that of GET /adapters/{name}. One sentence for each thing that was measured. */
export function promisesOf(trust) {
  if (!trust) return [NOTHING];
  const { calibration, sets, selective, operating, familiarity } = trust;
  const found = [
    calibration && calibrated(calibration),
    sets && inSets(sets),
    selective && sure(selective),
    operating && operated(operating),
    familiarity &&
      `It warns of an image that is more unlike its training images than ${share(familiarity.flag / 100)} of ${number(familiarity.images)} images kept aside.`,
  ].filter(Boolean);
  return found.length ? found : [NOTHING];
}

function calibrated({ ece, ece_interval: [low, high], images }) {
  return (
    `A score can be read as a probability: on ${number(images)} images kept aside, scores and right answers differed by ` +
    `${share(ece)} on average (the range is ${share(low)} to ${share(high)}).`
  );
}

function inSets({ coverage, no_guarantee: few }) {
  const without = few.length ? ` There were too few images to promise this for ${listed(few)}.` : "";
  return `If it is not sure, it names all labels that may be right. The right one is among them for ${share(coverage)} of the images of each label.${without}`;
}

function sure({ accuracy, threshold, share: part, images }) {
  if (threshold === null) {
    return `It cannot promise that ${share(accuracy)} of its sure answers are right: ${number(images)} images kept aside are too few to show it.`;
  }
  return `It is “sure” from the score ${threshold.toFixed(3)} on. ${share(accuracy)} of these answers are right, and ${share(part)} of the images get one.`;
}

function operated({ kind, value, positive, threshold, images }) {
  if (threshold === null) return `It cannot promise a ${kind} of ${share(value)}: ${number(images)} images kept aside are too few to show it.`;
  return `It answers ${positive} from the score ${threshold.toFixed(3)} on, which keeps a ${kind} of at least ${share(value)}.`;
}
