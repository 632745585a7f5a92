/** Which images to label, with which adapter's labels, as whom; and what waits in the pools. */

import { html, useRef, useState } from "../../lib/html.js";
import { asProblem, sendFile } from "../../lib/api.js";
import { fromInput } from "../../lib/files.js";
import { number, plural, ProblemBox } from "../../lib/parts.js";

/** `start({pool, adapter, who})` is called with names. */
export function Start({ pools, adapters, person, setPerson, start, reload }) {
  const first = pools.find(({ images, labelled }) => labelled < images)?.name ?? "";
  const submit = (event) => {
    event.preventDefault();
    const fields = new FormData(event.target);
    start({ pool: fields.get("pool").trim(), adapter: fields.get("adapter"), who: fields.get("who").trim() });
  };
  if (!adapters.length) return html`<p class="quiet">Labels are those of an adapter. Teach one first.</p>`;
  return html`<form class="panel start" onSubmit=${submit}>
      <label>Pool <input name="pool" list="pools" required maxlength="64" autocomplete="off" spellcheck="false" placeholder="cells" defaultValue=${first} /></label>
      <datalist id="pools">${pools.map(({ name }) => html`<option value=${name} />`)}</datalist>
      <label>Labels of the adapter <select name="adapter" required>${adapters.map(({ name }) => html`<option value=${name}>${name}</option>`)}</select></label>
      <label>Your name <input name="who" required maxlength="64" autocomplete="nickname" value=${person} onInput=${(event) => setPerson(event.target.value)} /></label>
      <button class="primary">Start</button>
    </form>
    <${Send} person=${person} reload=${reload} />`;
}

/** The pools, how much waits in each, and who has images reserved. */
export function Pools({ pools }) {
  if (!pools.length) return null;
  return html`<div class="scrolls" tabindex="0" role="region" aria-label="Pools"><table>
    <thead><tr><th scope="col">Pool</th><th scope="col">Without a label</th><th scope="col">Labelled</th><th scope="col">Reserved now</th></tr></thead>
    <tbody>${pools.map(
      ({ name, images, labelled, held }) => html`<tr key=${name}>
        <th scope="row">${name}</th><td>${number(images - labelled)}</td><td>${number(labelled)}</td>
        <td>${Object.entries(held).map(([who, count]) => `${who}: ${number(count)}`).join(", ") || "none"}</td>
      </tr>`,
    )}</tbody>
  </table></div>`;
}

/** Sends images that wait for a label, one request each. */
function Send({ person, reload }) {
  const [state, setState] = useState(null);
  const input = useRef();
  const send = async (pool, found) => {
    let added = 0;
    try {
      for (const [index, { file }] of found.entries()) {
        setState({ words: `Sending image ${index + 1} of ${found.length} …` });
        const query = new URLSearchParams({ who: person || "page" });
        added += (await sendFile("POST", `datasets/${encodeURIComponent(pool)}/unlabelled?${query}`, file)).added;
      }
      setState({ words: `${plural(added, "image")} added to ${pool}. ${found.length - added ? `It already had ${found.length - added} of them.` : ""}` });
    } catch (error) {
      setState({ words: `${plural(added, "image")} added to ${pool}.`, problem: asProblem(error) });
    }
    reload();
  };
  const submit = (event) => {
    event.preventDefault();
    input.current.click();
  };
  return html`<details class="send-images">
    <summary>Send images that wait for a label</summary>
    <form class="panel" onSubmit=${submit}>
      <label>Into the pool <input name="into" required maxlength="64" autocomplete="off" spellcheck="false" placeholder="cells" /></label>
      <button>Choose images</button>
      <input ref=${input} type="file" multiple hidden aria-label="Images without a label"
        onChange=${(event) => send(event.target.form.elements.into.value.trim(), fromInput(event.target))} />
      ${state && html`<p role="status">${state.words}</p>`}
      ${state?.problem && html`<${ProblemBox} problem=${state.problem} />`}
    </form>
  </details>`;
}
