/** An adapter of another tool: first what the server would make of it, then the adapter itself. */

import { html, useEffect, useState } from "../../lib/html.js";
import { Copied, Facts, Outcome, useAction } from "../../lib/controls.js";
import { plural } from "../../lib/parts.js";
import { useSession } from "../../lib/session.js";
import { transfer } from "../../lib/transfer.js";
import { share } from "../../lib/words.js";
import { linkTo, pathOf } from "./words.js";

const MOST = 20; // tensors that are named
const COMMAND = /lensmount adapters extract [^.]*/; // in the message about the weights of a whole network

export default function Import({ source, name, given, changed }) {
  const session = useSession();
  const [as, setAs] = useState(name);
  const [labels, setLabels] = useState("");
  const [report, setReport] = useState(null);
  const [made, setMade] = useState(null);
  const action = useAction();
  const ask = async (dry) => {
    const query = new URLSearchParams({ source: source.title, ...(dry && { dry_run: "true" }) });
    for (const label of labels.split(/[\n,]/).map((each) => each.trim()).filter(Boolean)) query.append("labels", label);
    return (await transfer("POST", `${pathOf(as.trim())}/import?${query}`, source.blob)).value;
  };
  useEffect(() => void action.run(async () => setReport((await ask(true)).report), "The server matches the file with its network"), []);
  const publish = (event) => {
    event.preventDefault();
    action.run(async () => {
      const answer = await ask(false);
      setReport(answer.report);
      setMade(answer.adapter);
      await session.reload();
      changed();
    }, "Importing");
  };
  const command = COMMAND.exec(action.problem?.detail ?? "")?.[0];
  return html`<div>
    <p><b>${source.title}</b></p>
    <${Outcome} action=${action} />
    ${command && html`<p>The weights of a whole network become an adapter on your own machine, with this command:</p><${Copied} label="The command" text=${command.trim()} />`}
    ${report && html`<${Match} report=${report} />`}
    ${report && !made && html`<form class="fields" onSubmit=${publish}>
      ${!given && html`<label class="field">Name on this server<input value=${as} required maxlength="64" onInput=${({ target }) => setAs(target.value)} /></label>`}
      <label class="field">Labels, in the order of the classes, with commas between them
        <input value=${labels} placeholder=${report.labels.join(", ")} onInput=${({ target }) => setLabels(target.value)} /></label>
      <button class="primary" disabled=${action.busy}>Publish it</button>
    </form>`}
    ${made && html`<p class="said"><span><b>${made.name} version ${made.version} answers now.</b> Its labels are ${report.labels.join(", ")}.</span> <a href=${linkTo(made.name)}>Open ${made.name}</a></p>`}
  </div>`;
}

function Match({ report: { tool, method, matched, share: part, error, stored_as: kept, ignored, notes, unproven, labels } }) {
  const left = Object.entries(ignored);
  return html`<div class="match">
    <p><b>${part === 1 && !left.length ? "Every part of the file has its place." : `${share(part)} of the file's numbers have a place.`}</b>
      It is a ${method} adapter of ${tool}. It changes ${plural(matched.length, "module")} of this server's network.</p>
    <${Facts} rows=${[
      ["Labels", labels.join(", ")],
      ["Stored as", kept],
      ["Largest error", `${error.toExponential(1)} of a merged weight, against a merge in float64`],
    ]} />
    ${left.length > 0 && html`<p>Left out, with the reason:</p><ul class="plain">${left.slice(0, MOST).map(([tensor, why]) => html`<li key=${tensor}><code>${tensor}</code>: ${why}</li>`)}
      ${left.length > MOST && html`<li>and ${left.length - MOST} more</li>`}</ul>`}
    ${notes.length > 0 && html`<ul class="plain">${notes.map((note) => html`<li key=${note}>${note}</li>`)}</ul>`}
    <details><summary>Where each part went</summary><ul class="plain">${matched.map(({ module, form, rank }) => html`<li key=${module}><code>${module}</code> ${form}${rank ? `, rank ${rank}` : ""}</li>`)}</ul></details>
    <p class="quiet">${unproven}.</p>
  </div>`;
}
