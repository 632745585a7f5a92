/** The rollouts of an adapter: which versions are tried under which alias, how they do, and a form that starts one. */

import { html, useEffect, useState } from "../../lib/html.js";
import { get, send, tagged } from "../../lib/api.js";
import { Asks, Outcome, Part, useAction } from "../../lib/controls.js";
import { Empty, ProblemBox, Waiting, useAsked } from "../../lib/parts.js";
import { useSession } from "../../lib/session.js";
import { aliasPath, firstOfAlias } from "./aliases.js";
import Report, { History } from "./report.js";
import Start from "./start.js";
import { linkTo, pathOf } from "./words.js";

const EVERY_MS = 5000;
export const rolloutPath = (name, alias) => `${pathOf(name)}/rollouts/${encodeURIComponent(alias)}`;

export default function Rollouts({ adapter, changed }) {
  const { name, aliases, rollouts, versions } = adapter;
  const running = Object.keys(rollouts).sort();
  const action = useAction();
  return html`<p class="quiet">A rollout tries a new version under an alias while the present one stays. A canary answers a part of the requests. A shadow only computes along, and nobody gets its answers.</p>
    <${Outcome} action=${action} reload=${changed} />
    ${running.map((alias) => html`<${Running} key=${alias} name=${name} alias=${alias} say=${action} changed=${changed} />`)}
    ${!Object.keys(aliases).length || versions.length < 2
      ? html`<${Empty} title="A rollout needs an alias and a second version">
          ${versions.length < 2 ? "Add the version that you want to try" : "Set an alias such as prod on the version that answers now"}: both are under <a href=${linkTo(name, "versions")}>Versions and aliases</a>.
        <//>`
      : html`<${Start} adapter=${adapter} changed=${changed} /><${Past} name=${name} aliases=${Object.keys(aliases).filter((alias) => !rollouts[alias])} />`}`;
}

function Running({ name, alias, say, changed }) {
  const { may } = useSession();
  const { value, problem, reload } = useAsked(() => tagged(rolloutPath(name, alias)), [name, alias]);
  const action = useAction();
  useEffect(() => {
    const timer = setInterval(() => document.hidden || reload(), EVERY_MS);
    return () => clearInterval(timer);
  }, []);
  if (problem) return html`<${ProblemBox} problem=${problem} again=${reload} />`;
  if (!value) return html`<${Waiting} />`;
  const { rollout } = value.value;
  if (!rollout) {
    return html`<${Part} title="${name}:${alias}"><p>This rollout has ended. <button type="button" onClick=${changed}>Show the present state</button></p><${History} events=${value.value.events} /><//>`;
  }
  const candidate = (rollout.canary ?? rollout.shadow)?.version ?? rollout.stable;
  const back = async () => {
    const { tag } = await tagged(aliasPath(name, alias));
    await send("PUT", aliasPath(name, alias), { version: rollout.stable }, { "If-Match": tag });
    await changed();
    return { words: `${name}:${alias} answers with version ${rollout.stable} again.` };
  };
  const end = (how, words, undo) =>
    action.run(async () => {
      await send("POST", `${rolloutPath(name, alias)}/${how}`, null, { "If-Match": value.tag });
      await changed();
      await say.run(async () => ({ words, undo })); // said outside this part, which goes with its rollout
    });
  const side = may("upload") && html`
    <${Asks} label="Promote version ${candidate}" title="Promote version ${candidate}?" danger=${false} yes="Promote" disabled=${action.busy}
      act=${() => end("promote", `${name}:${alias} answers with version ${candidate} now.`, back)}>
      From the next request on, version ${candidate} answers everybody who asks ${name}:${alias}. Version ${rollout.stable} stays, so you can move the alias back.
    <//>
    <${Asks} label="Roll back to version ${rollout.stable}" title="Roll back to version ${rollout.stable}?" yes="Roll back" disabled=${action.busy}
      act=${() => end("rollback", `${name}:${alias} answers with version ${rollout.stable} alone.`)}>
      Version ${rollout.stable} answers all requests again, from the next one on.
    <//>`;
  return html`<${Part} title="${name}:${alias}" side=${side}>
    <${Outcome} action=${action} first=${firstOfAlias(name, alias)} reload=${changed} />
    <${Report} report=${value.value} />
  <//>`;
}

/** What became of the last rollout of an alias that has none now. */
function Past({ name, aliases }) {
  const [shown, setShown] = useState(null);
  const action = useAction();
  if (!aliases.length) return null;
  const show = (alias) => action.run(async () => setShown(await get(rolloutPath(name, alias))));
  return html`<${Part} title="Earlier rollouts">
    <p class="quiet">What was tried under an alias, and how it ended:</p>
    <p class="tabs">${aliases.map((alias) => html`<button type="button" key=${alias} aria-pressed=${shown?.alias === alias} onClick=${() => show(alias)}>${alias}</button>`)}</p>
    ${action.problem?.code === "rollout_not_found" ? html`<p>Nothing was ever tried under this alias.</p>` : html`<${Outcome} action=${action} />`}
    ${shown && html`<${History} events=${shown.events} />`}
  <//>`;
}
