/** Whether the server answers, what it serves, and whether its weights are what they were at its start. */

import { html } from "../../lib/html.js";
import { get, token } from "../../lib/api.js";
import { Facts, Outcome, Part, useAction } from "../../lib/controls.js";
import { download } from "../../lib/download.js";
import { Badge, ProblemBox, Waiting, number, plural, useAsked } from "../../lib/parts.js";
import { address } from "../../lib/route.js";
import { useSession } from "../../lib/session.js";
import { bytes, duration, listed, moments } from "../../lib/words.js";

export default function Health() {
  const { who } = useSession();
  return html`<${Ready} /><${You} />${who.operator && html`<${Integrity} /><${Metrics} />`}`;
}

function Ready() {
  const { adapters, limits } = useSession();
  const { value, problem, reload } = useAsked(() => get("health/ready"), []);
  const own = adapters.filter(({ name }) => !name.startsWith("public/"));
  const aside = own.filter(({ status }) => status !== "ready");
  const side = html`<button type="button" onClick=${reload}>Refresh</button>`;
  return html`<${Part} title="Is it well?" side=${side}>
    ${problem && html`<${ProblemBox} problem=${problem} again=${reload} />`}
    ${!value && !problem && html`<${Waiting} />`}
    ${value && html`
      <p><${Badge} kind=${value.status === "ok" && !value.audit ? "good" : "wrong"}>${value.status === "ok" ? "well" : "degraded"}<//>
        ${value.status === "ok" ? " It answers, and it stores what you upload." : ` It answers, but it cannot store anything: ${value.store}`}</p>
      ${value.audit && html`<p class="problem">The audit log: ${value.audit}</p>`}
      <${Facts} rows=${[
        ["Network", value.backbone],
        ["Computed by", `${limits.engine.executor}, ${limits.engine.precision}, mode ${limits.engine.mode}`],
        ["Adapters", html`<a href=${address("adapters")}>${number(own.length)}</a>${aside.length ? `, of which ${number(aside.length)} cannot answer: ${listed(aside.map(({ name }) => name))}` : ""}`],
        ["Set aside", value.quarantined ? `${plural(value.quarantined, "version")} after failures in a row; the page of the adapter has a button that tries again` : null],
      ]} />`}
  <//>`;
}

const QUOTAS = {
  requests_per_minute: ["Requests a minute", number],
  pixels_per_minute: ["Pixels a minute", number],
  bytes_per_minute: ["Sent a minute", bytes],
  stored_bytes: ["Stored", bytes],
  queued_jobs: ["Jobs that wait", number],
  queue_share: ["Part of the queue", (value) => `${Math.round(100 * value)} %`],
};

/** Limits of a token in words: [[title, text]]; nothing for a quantity without a limit. */
export const quotasOf = (quotas, used = {}) =>
  Object.entries(QUOTAS).filter(([key]) => quotas[key] !== null && quotas[key] !== undefined).map(([key, [title, words]]) => [title, `at most ${words(quotas[key])}${used?.[key] === undefined ? "" : `, now ${words(used[key])}`}`]);

const MAY = { predict: "ask adapters", upload: "upload and change adapters", train: "upload images and train", admin: "manage tokens and read the audit log" };
export const mayOf = (scopes) => listed(Object.keys(MAY).filter((scope) => scopes.includes(scope)).map((scope) => MAY[scope]));

function You() {
  const { who } = useSession();
  return html`<${Part} title="What you may do here">
    <${Facts} rows=${[
      ["You are", who.actor === "loopback" ? "anybody on this machine: the server is open to it" : who.actor],
      ["Group", who.tenant === "default" ? null : who.tenant],
      ["You may", mayOf(who.scopes)],
      ["Your token ends", who.expires_at && moments(who.expires_at)],
      ...quotasOf(who.quotas, who.used),
    ]} />
  <//>`;
}

function Integrity() {
  const action = useAction();
  const check = () =>
    action.run(async () => {
      const { ok, tensors, changed, seconds, age_s: age } = await get("integrity");
      const when = age > 1 ? ` The check is ${duration(age)} old.` : "";
      if (ok) return { words: `All ${number(tensors)} tensors of the network are bit for bit what they were at the start (checked in ${duration(seconds)}).${when}` };
      return { words: `${plural(changed.length, "tensor")} changed since the start: ${listed(changed)}. Restart the server: its answers cannot be relied on.` };
    }, "Hashing every tensor");
  return html`<${Part} title="Is the network unchanged?" side=${html`<button type="button" disabled=${action.busy} onClick=${check}>Check now</button>`}>
    <p class="quiet">Adapters are mounted on one network that all share. The check puts its own weights back and compares each with its hash at the start.</p>
    <${Outcome} action=${action} />
  <//>`;
}

function Metrics() {
  const action = useAction();
  return html`<${Part} title="Figures for monitoring">
    <p>${token.get()
      ? html`<button type="button" disabled=${action.busy} onClick=${() => action.run(() => download("metrics", "metrics.txt"))}>Save the figures of now</button>`
      : html`<a href="metrics" target="_blank">Figures of now</a>`}
      <span class="quiet"> Prometheus reads them at <code>${new URL("metrics", document.baseURI).href}</code>.</span></p>
    <${Outcome} action=${action} />
  <//>`;
}
