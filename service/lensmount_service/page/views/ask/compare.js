/** Whether two answers about one image agree, in a sentence. */

import { html } from "../../lib/html.js";
import { percent } from "../../lib/parts.js";
import { useSession } from "../../lib/session.js";
import { titleOf } from "../../lib/titles.js";

/** Whether two versions of one adapter answer with different labels. */
export function differs(answers) {
  const told = answers.filter((answer) => answer && !answer.error && !answer.segmentation);
  return told.some((one) => told.some((other) => one.adapter.name === other.adapter.name && best(one).label !== best(other).label));
}

const best = ({ predictions: [first] }) => first;

/** Said only where two versions of one adapter are asked. */
export function Differ({ answers }) {
  const { adapters } = useSession();
  const told = answers.filter((answer) => answer && !answer.error && !answer.segmentation);
  const pair = told.flatMap((one, at) => told.slice(at + 1).map((other) => [one, other])).find(([one, other]) => one.adapter.name === other.adapter.name);
  if (!pair) return null;
  const [one, other] = pair;
  const title = (answer) => titleOf(adapters.find(({ name }) => name === answer.adapter.name), best(answer).label);
  const before = other.predictions.find(({ label }) => label === best(one).label)?.score ?? 0;
  const apart = Math.abs(best(one).score - before);
  const versions = `Versions ${one.adapter.version} and ${other.adapter.version}`;
  const words = differs(pair)
    ? `${versions} differ: ${title(one)} or ${title(other)}.`
    : `${versions} agree: ${title(one)}; their scores are ${percent(apart)} apart.`;
  return html`<p class=${`agreement ${differs(pair) ? "apart" : ""}`}>${words}</p>`;
}
