/** The form that starts a canary or a shadow. */

import { html, useState } from "../../lib/html.js";
import { send, tagged } from "../../lib/api.js";
import { Outcome, Part, useAction } from "../../lib/controls.js";
import { aliasPath, firstOfAlias } from "./aliases.js";

const KEYS = { request: "each request by itself", client: "each caller as a whole", header: "by a header, as a whole" };

export default function Start({ adapter, changed }) {
  const { name, aliases, versions, version } = adapter;
  const names = Object.keys(aliases).sort();
  const [alias, setAlias] = useState(names[0]);
  const others = [...versions].reverse().filter((each) => each !== aliases[alias]);
  const [candidate, setCandidate] = useState(others.includes(version) ? version : others[0]);
  const [kind, setKind] = useState("canary");
  const [percent, setPercent] = useState(10);
  const [key, setKey] = useState("request");
  const [header, setHeader] = useState("X-Patient");
  const action = useAction();
  const chosen = others.includes(candidate) ? candidate : others[0];
  const canary = { version: chosen, percent: Number(percent), key: key === "header" ? `header:${header.trim()}` : key };
  const shadow = { version: chosen, sample: Number(percent) / 100 };
  const submit = (event) => {
    event.preventDefault();
    action.run(async () => {
      const { value, tag } = await tagged(aliasPath(name, alias));
      if (value.version !== aliases[alias]) return changed(); // the form shows an older state
      await send("PUT", aliasPath(name, alias), { stable: value.version, [kind]: kind === "canary" ? canary : shadow }, { "If-Match": tag });
      await changed();
      return { words: `Version ${chosen} is tried next to version ${value.version}. The report above fills as requests for ${name}:${alias} come in.` };
    }, "The server prepares both versions");
  };
  return html`<${Part} title="Try a version">
    <form onSubmit=${submit}>
      <div class="fields">
        <label class="field">Under the alias<select value=${alias} onChange=${({ target }) => setAlias(target.value)}>
          ${names.map((each) => html`<option key=${each} value=${each}>${each} (now version ${aliases[each]})</option>`)}
        </select></label>
        <label class="field">Try<select value=${chosen} onChange=${({ target }) => setCandidate(Number(target.value))}>
          ${others.map((each) => html`<option key=${each} value=${each}>version ${each}</option>`)}
        </select></label>
        <label class="field">As<select value=${kind} onChange=${({ target }) => setKind(target.value)}>
          <option value="canary">a canary: it answers</option>
          <option value="shadow">a shadow: it computes</option>
        </select></label>
        <label class="field">${kind === "canary" ? "Per cent of the requests" : "Per cent of the images"}
          <input type="number" min="0" max="100" step="any" required value=${percent} onInput=${({ target }) => setPercent(target.value)} /></label>
        ${kind === "canary" && html`<label class="field">Who gets it<select value=${key} onChange=${({ target }) => setKey(target.value)}>
          ${Object.entries(KEYS).map(([each, words]) => html`<option key=${each} value=${each}>${words}</option>`)}
        </select></label>`}
        ${kind === "canary" && key === "header" && html`<label class="field">Header<input required value=${header} maxlength="64" onInput=${({ target }) => setHeader(target.value)} /></label>`}
      </div>
      <p class="quiet">${kind === "canary"
        ? "The server takes a canary back by itself if it fails, is slower, is less sure or is wrong more often than the present version."
        : "A shadow harms nobody, so it stays until you end it."} A rollout of the alias that runs now is replaced.</p>
      <button class="primary" disabled=${action.busy}>Start</button>
    </form>
    <${Outcome} action=${action} first=${firstOfAlias(name, alias)} reload=${changed} />
  <//>`;
}
