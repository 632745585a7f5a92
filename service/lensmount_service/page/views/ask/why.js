/** A button that asks why an adapter chose a label, and the answer: the image with what speaks for the label in colour. */

import { html, useEffect, useState } from "../../lib/html.js";
import { asProblem, explain } from "../../lib/api.js";
import { ProblemBox, Waiting } from "../../lib/parts.js";

/** `adapter` is exactly the version that answered. */
export function Why({ file, adapter, label, title }) {
  const [state, setState] = useState(null);
  useEffect(() => () => state?.url && URL.revokeObjectURL(state.url), [state]);
  const ask = async () => {
    setState({ waiting: true });
    try {
      const { image, grid, method } = await firstAnswer(file, adapter, label);
      setState({ url: URL.createObjectURL(image), grid, method });
    } catch (error) {
      setState({ problem: asProblem(error) });
    }
  };
  return html`<div class="why">
    <button type="button" disabled=${Boolean(state && !state.problem)} onClick=${ask}>Why ${title}?</button>
    <div aria-live="polite">
      ${state?.waiting && html`<${Waiting}>Computing<//>`}
      ${state?.problem && html`<${ProblemBox} problem=${state.problem} again=${ask} />`}
      ${state?.url && html`<figure>
        <img src=${state.url} alt=${`The image with what speaks for ${title} in colour`} />
        <figcaption class="quiet">Red and yellow: what speaks for ${title}. Method ${state.method}, ${state.grid.join(" x ")} cells.</figcaption>
      </figure>`}
    </div>
  </div>`;
}

/** By the method that is as quick as a prediction, or else by the one that works with every backbone. */
async function firstAnswer(file, adapter, label) {
  try {
    return { method: "cam", ...(await explain(file, adapter, label, "cam")) };
  } catch (error) {
    if (error.code !== "explanation_not_possible") throw error;
    return { method: "occlusion", ...(await explain(file, adapter, label, "occlusion")) };
  }
}
