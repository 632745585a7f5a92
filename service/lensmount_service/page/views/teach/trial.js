/** Asks the adapter of this task about one image, right where it is taught. */

import { html, useRef, useState } from "../../lib/html.js";
import { asProblem, predict } from "../../lib/api.js";
import { fromDrop, fromInput } from "../../lib/files.js";
import { Meter, percent, ProblemBox, Waiting } from "../../lib/parts.js";
import { Trust } from "../../lib/trust.js";
import { Picture } from "./column.js";

const SHOWN = 3; // labels with a bar

/** `title` says who answers: the first draft, or a version. */
export function Trial({ name, title }) {
  const [asked, setAsked] = useState(null);
  const [over, setOver] = useState(false);
  const input = useRef();
  const ask = async (found) => {
    const file = found[0]?.file;
    if (!file) return;
    setAsked({ file });
    try {
      const [result] = await predict(file, [name]);
      setAsked({ file, result });
    } catch (error) {
      setAsked({ file, problem: asProblem(error) });
    }
  };
  const drop = async (event) => {
    event.preventDefault();
    setOver(false);
    ask(await fromDrop(event.dataTransfer));
  };
  return html`<div class=${`trial ${over ? "over" : ""}`} onDragOver=${(event) => (event.preventDefault(), setOver(true))}
      onDragLeave=${() => setOver(false)} onDrop=${drop}>
    <p><b>Ask it about an image that it has not seen.</b> Drop one here, or choose one.</p>
    <button type="button" onClick=${() => input.current.click()}>Choose an image to ask about</button>
    <input ref=${input} type="file" hidden aria-label="An image to ask about" onChange=${(event) => ask(fromInput(event.target))} />
    ${asked && html`<div class="answer" aria-live="polite">
      <${Picture} blob=${asked.file} alt=${asked.file.name} />
      ${asked.problem ? html`<${ProblemBox} problem=${asked.problem} />` : asked.result ? html`<${Answer} result=${asked.result} title=${title} />` : html`<${Waiting}>Asking<//>`}
    </div>`}
  </div>`;
}

function Answer({ result, title }) {
  const [top] = result.predictions;
  return html`<div class="told">
    <p class="quiet">${title} says</p>
    <p class="top">${top.label}</p>
    <${Trust} trust=${result.trust} />
    ${result.predictions.slice(0, SHOWN).map(
      ({ label, score }) => html`<div class="score" key=${label}>
        <span>${label}</span><span class="number">${percent(score)}</span><${Meter} label=${label} value=${score} />
      </div>`,
    )}
  </div>`;
}
