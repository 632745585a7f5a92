/** The aliases of an adapter: names such as `prod` that point at one version, until somebody moves them. */

import { html, useState } from "../../lib/html.js";
import { send, tagged } from "../../lib/api.js";
import { Asks, Outcome, Part, useAction } from "../../lib/controls.js";
import { Badge, ProblemBox, Waiting, useAsked } from "../../lib/parts.js";
import { useSession } from "../../lib/session.js";
import { linkTo, pathOf, trialOf } from "./words.js";

export const aliasPath = (name, alias) => `${pathOf(name)}/aliases/${encodeURIComponent(alias)}`;

/** Where an alias points now, in a sentence, for a conflict. */
export const firstOfAlias = (name, alias) => async () => {
  const { value } = await tagged(aliasPath(name, alias));
  const who = value.rollout ? `, and ${value.rollout.started_by ?? "somebody"} tries ${trialOf(value.rollout)}` : "";
  return `The alias ${alias} now points at version ${value.version}${who}.`;
};

export default function Aliases({ adapter, changed }) {
  const { name, versions, aliases } = adapter;
  const names = Object.keys(aliases).sort();
  const { value, problem, reload } = useAsked(() => Promise.all(names.map((alias) => tagged(aliasPath(name, alias)))), [JSON.stringify(aliases), JSON.stringify(adapter.rollouts)]);
  return html`<${Part} title="Aliases">
    <p class="quiet">An alias is a second name that stays with one version: programs that ask <code>${name}:prod</code> notice nothing until you move the alias.</p>
    ${problem && html`<${ProblemBox} problem=${problem} again=${reload} />`}
    ${!value && !problem && html`<${Waiting} />`}
    ${value?.length === 0 && html`<p>There is no alias yet.</p>`}
    ${value && html`<ul class="rows">${value.map((each) => html`<${Row} key=${each.value.alias + each.tag} name=${name} versions=${versions} found=${each.value} tag=${each.tag}
      guarded=${adapter.protected_aliases.includes(each.value.alias)} changed=${changed} />`)}</ul>`}
    <${Add} adapter=${adapter} changed=${changed} />
  <//>`;
}

function Row({ name, versions, found, tag, guarded, changed }) {
  const { alias, version, rollout, trust } = found;
  const { may } = useSession();
  const [to, setTo] = useState(version);
  const action = useAction();
  const locked = guarded && !may("admin");
  const put = (body, words) =>
    action.run(async () => {
      await send("PUT", aliasPath(name, alias), body, { "If-Match": tag });
      await changed();
      return { words };
    });
  const remove = () =>
    action.run(async () => {
      await send("DELETE", aliasPath(name, alias), null, { "If-Match": tag });
      await changed();
    });
  return html`<li>
    <div class="main"><b>${alias}</b> points at version ${version} ${guarded && html`<${Badge} title="Only an administrator moves or deletes it">protected<//>`}
      ${rollout && html`<div class="quiet"><a href=${linkTo(name, "rollouts")}>${trialOf(rollout)}</a>. Moving the alias ends this.</div>`}
      ${trust && html`<div class="quiet">Its own limits: ${limitsOf(trust)}.</div>`}
    </div>
    <div class="end">
      ${!locked && html`<select aria-label="Version for ${alias}" value=${to} onChange=${({ target }) => setTo(Number(target.value))}>
        ${[...versions].reverse().map((each) => html`<option key=${each} value=${each}>version ${each}</option>`)}
      </select>
      <button type="button" disabled=${action.busy || (to === version && !rollout)} onClick=${() => put({ version: to }, `${alias} points at version ${to}.`)}>Move ${alias}</button>
      ${may("admin") && html`<button type="button" disabled=${action.busy} onClick=${() => put({ version, protected: !guarded })}
        hidden=${Boolean(rollout)}>${guarded ? "Unprotect" : "Protect"} ${alias}</button>`}
      <${Asks} label="Delete ${alias}" title="Delete the alias ${alias}?" yes="Delete" disabled=${action.busy} act=${remove}>
        Requests for ${name}:${alias} then fail. The version stays.
      <//>`}
    </div>
    <${Outcome} action=${action} first=${firstOfAlias(name, alias)} reload=${changed} />
  </li>`;
}

const limitsOf = ({ accept_confidence: sure, unfamiliar_percentile: unlike }) =>
  [sure !== null && `sure from the score ${sure} on`, unlike !== null && `unfamiliar from the percentile ${unlike} on`].filter(Boolean).join(", ");

function Add({ adapter: { name, versions, version }, changed }) {
  const [alias, setAlias] = useState("");
  const [to, setTo] = useState(version);
  const action = useAction();
  const add = (event) => {
    event.preventDefault();
    action.run(async () => {
      await send("PUT", aliasPath(name, alias.trim()), { version: to }, { "If-None-Match": "*" });
      setAlias("");
      await changed();
      return { words: `${name}:${alias.trim()} answers with version ${to}.` };
    });
  };
  return html`<form class="fields" onSubmit=${add}>
      <label class="field">New alias<input value=${alias} required maxlength="64" autocomplete="off" spellcheck="false" placeholder="prod" onInput=${({ target }) => setAlias(target.value)} /></label>
      <label class="field">points at<select value=${to} onChange=${({ target }) => setTo(Number(target.value))}>
        ${[...versions].reverse().map((each) => html`<option key=${each} value=${each}>version ${each}</option>`)}
      </select></label>
      <button disabled=${action.busy}>Set the alias</button>
    </form>
    <${Outcome} action=${action} first=${firstOfAlias(name, alias.trim())} reload=${() => (setAlias(""), changed())} />`;
}
