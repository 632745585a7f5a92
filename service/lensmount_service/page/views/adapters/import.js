/** An adapter of another tool: first what the server would make of it, then the adapter itself. */

import { html, useEffect, useState } from "../../lib/html.js";
import { Copied, DropZone, Facts, Outcome, useAction } from "../../lib/controls.js";
import { plural } from "../../lib/parts.js";
import { useSession } from "../../lib/session.js";
import { transfer } from "../../lib/transfer.js";
import { share } from "../../lib/words.js";
import { pack } from "../../lib/zip.js";
import { linkTo, pathOf } from "./words.js";

const MOST = 20; // tensors that are named
const COMMAND = /lensmount adapters extract [^.]*/; // in the message about the weights of a whole network
const INCOMPLETE = /adapter_config\.json|classifier/; // in the messages about a file that needs another one next to it

export default function Import({ source: first, name, given, changed }) {
  const session = useSession();
  const [source, setSource] = useState(first);
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
  useEffect(() => void action.run(async () => setReport((await ask(true)).report), "The server matches the file with its network"), [source]);
  const add = (files) =>
    action.run(async () => {
      const all = [...source.files, ...files.map(({ file, path }) => ({ path: path.split("/").at(-1), blob: file }))];
      setSource({ ...source, files: all, blob: await pack(all) });
    });
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
  return html`<div>
    <p><b>${source.title}</b></p>
    <${Outcome} action=${action} />
    <${Extract} problem=${action.problem} />
    ${INCOMPLETE.test(action.problem?.detail ?? "") && html`<${DropZone} title="Add the missing file" chosen=${add}
      note="adapter_config.json of PEFT, or head.safetensors with the classifier's weight and bias. The page sends it together with ${source.title}." />`}
    ${report && html`<${Match} report=${report} />`}
    ${report && !made && html`<form class="fields" onSubmit=${publish}>
      ${!given && html`<label class="field">Name on this server<input value=${as} required maxlength="64" onInput=${({ target }) => setAs(target.value)} /></label>`}
      <label class="field">Labels, in the order of the classes, with commas between them
        <input value=${labels} placeholder=${report.labels.join(", ")} onInput=${({ target }) => setLabels(target.value)} /></label>
      <button class="primary" disabled=${action.busy}>Publish it</button>
    </form>`}
    ${made && html`<p class="said"><span><b>${made.name} version ${made.version} answers now.</b>${" "}Its labels are ${report.labels.join(", ")}.</span> <a href=${linkTo(made.name)}>Open ${made.name}</a></p>`}
  </div>`;
}

/** The way out for the weights of a whole network, which only the command line turns into an adapter. */
export function Extract({ problem }) {
  const command = COMMAND.exec(problem?.detail ?? "")?.[0];
  if (!command) return null;
  return html`<div class="said"><div><p>A network that was fine-tuned as a whole becomes an adapter on your own machine, by this command. Then drop the new file here.</p>
    <${Copied} label="The command" text=${command.trim()} /></div></div>`;
}

function Match({ report: { tool, method, matched, share: part, error, stored_as: kept, ignored, notes, unproven, labels } }) {
  const left = Object.entries(ignored);
  const changed = matched.filter(({ form }) => form !== "head");
  return html`<div class="match">
    <p><b>${part === 1 && !left.length ? "Every part of the file has its place." : `${share(part)} of the file's numbers have a place.`}</b>${" "}
      It is a ${method} adapter of ${tool}. It changes ${plural(changed.length, "module")} of this server's network.</p>
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
