/** Versions that were deleted and can still be brought back. */

import { html, useState } from "../../lib/html.js";
import { get, send } from "../../lib/api.js";
import { Outcome, useAction } from "../../lib/controls.js";
import { ProblemBox, Waiting, useAsked } from "../../lib/parts.js";
import { useSession } from "../../lib/session.js";
import { When, bytes } from "../../lib/words.js";
import { pathOf } from "./words.js";

/** A part that is closed at first. `only` is the name of one adapter. `changed` is called after one is back. */
export default function Deleted({ only, changed = () => {} }) {
  const [open, setOpen] = useState(false);
  return html`<details class="part" onToggle=${({ currentTarget }) => setOpen(currentTarget.open)}>
    <summary>Deleted${only ? " versions" : ""}: bring one back</summary>
    ${open && html`<${Rows} only=${only} changed=${changed} />`}
  </details>`;
}

function Rows({ only, changed }) {
  const session = useSession();
  const { value, problem, reload } = useAsked(() => get("adapters?deleted=true"), [session.adapters]);
  const action = useAction();
  if (problem) return html`<${ProblemBox} problem=${problem} again=${reload} />`;
  if (!value) return html`<${Waiting} />`;
  const found = value.deleted.filter(({ name }) => !only || name === only);
  const back = ({ name, version }) =>
    action.run(async () => {
      await send("POST", `${pathOf(name)}/versions/${version}/undelete`);
      await session.reload();
      changed();
      return { words: `Version ${version} of ${name} is back.` };
    });
  return html`<${Outcome} action=${action} reload=${reload} />
    ${!found.length && html`<p class="quiet">Nothing was deleted that could be brought back.</p>`}
    <ul class="rows">${found.map((each) => html`<li key=${`${each.name}@${each.version}`}>
      <div class="main"><b>${each.name}</b> version ${each.version} <span class="quiet">${bytes(each.size_bytes)}</span>
        <div class="quiet">Deleted <${When} at=${each.deleted_at} />. It can be brought back at least until <${When} at=${each.kept_until} />.</div></div>
      <button type="button" disabled=${action.busy} onClick=${() => back(each)}>Bring version ${each.version} back</button>
    </li>`)}</ul>`;
}
