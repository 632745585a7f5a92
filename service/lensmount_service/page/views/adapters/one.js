/** One adapter, on several tabs. */

import { html, useEffect } from "../../lib/html.js";
import { tagged } from "../../lib/api.js";
import { Badge, ProblemBox, Waiting, useAsked } from "../../lib/parts.js";
import { address } from "../../lib/route.js";
import { useSession } from "../../lib/session.js";
import Manage from "./manage.js";
import { Marks } from "./list.js";
import Overview from "./overview.js";
import Rollouts from "./rollouts.js";
import Versions from "./versions.js";
import { isPublic, linkTo, pathOf, trialOf, troubleOf } from "./words.js";

const TABS = {
  overview: ["Overview", Overview],
  versions: ["Versions and aliases", Versions],
  rollouts: ["Rollouts", Rollouts],
  manage: ["Export, share, delete", Manage],
};

export default function One({ name, tab }) {
  const session = useSession();
  const { value, problem, waiting, reload } = useAsked(() => tagged(pathOf(name)), [name]);
  useEffect(() => {
    document.title = `${name} · Adapters · Lensmount`;
  }, [name]);
  const changed = async () => {
    await session.reload();
    reload();
  };
  const crumb = html`<p class="crumb"><a href=${address("adapters")}>All adapters</a></p>`;
  if (problem) return html`${crumb}<h2>${name}</h2><${ProblemBox} problem=${problem} again=${reload} />`;
  if (!value) return html`${crumb}<h2>${name}</h2><${Waiting} />`;
  const adapter = value.value;
  const tabs = Object.entries(TABS).filter(([key]) => key === "overview" || (session.may("upload") && !isPublic(name)));
  const chosen = tabs.some(([key]) => key === tab) ? tab : "overview";
  const Shown = TABS[chosen][1];
  return html`${crumb}
    <div class="view-head">
      <h2>${name}</h2>
      <span class="quiet">version ${adapter.version}</span>
      <${Marks} adapter=${adapter} trouble=${troubleOf(adapter)} />
      ${Object.entries(adapter.rollouts ?? {}).map(([alias, rollout]) => html`<${Badge} key=${alias} kind="busy">${alias}: ${trialOf(rollout)}<//>`)}
      <div class="side">
        ${session.may("predict") && adapter.status === "ready" && html`<a class="button" href=${address("ask", [], { adapter: name })}>Ask it</a>`}
      </div>
    </div>
    ${tabs.length > 1 && html`<nav class="tabs" aria-label="About this adapter">
      ${tabs.map(([key, [title]]) => html`<a key=${key} href=${key === "overview" ? linkTo(name) : linkTo(name, key)} aria-current=${key === chosen ? "page" : undefined}>${title}</a>`)}
    </nav>`}
    <div aria-busy=${waiting}><${Shown} key=${chosen} adapter=${adapter} tag=${value.tag} changed=${changed} /></div>`;
}
