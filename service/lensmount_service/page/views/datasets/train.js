/** Train an adapter on a dataset that is here. */

import { html, useState } from "../../lib/html.js";
import { send } from "../../lib/api.js";
import { Outcome, Part, useAction } from "../../lib/controls.js";
import { address } from "../../lib/route.js";
import { useSession } from "../../lib/session.js";

export default function Train({ dataset: { name, version }, pinned }) {
  const { adapters } = useSession();
  const [adapter, setAdapter] = useState(name.replace("public/", ""));
  const [auto, setAuto] = useState(false);
  const action = useAction();
  const known = adapters.find((each) => each.name === adapter.trim());
  const train = (event) => {
    event.preventDefault();
    action.run(async () => {
      const { id } = await send("POST", "jobs", { dataset: pinned ? `${name}@${version}` : name, adapter: adapter.trim(), ...(auto && { auto: true }) });
      location.hash = address("jobs", [id]);
    });
  };
  return html`<${Part} title="Train on it">
    <form class="fields" onSubmit=${train}>
      <label class="field">Name of the adapter<input value=${adapter} required maxlength="64" autocomplete="off" spellcheck="false" onInput=${({ target }) => setAdapter(target.value)} /></label>
      <label class="check"><input type="checkbox" checked=${auto} onChange=${({ target }) => setAuto(target.checked)} />Try several methods first (slower)</label>
      <button class="primary" disabled=${action.busy}>Train${pinned ? ` on version ${version}` : ""}</button>
    </form>
    <p class="quiet">${known ? `${adapter.trim()} exists: the result becomes its next version if it is no worse on the same test images.` : "The result is published under this name."}
      ${" "}You can watch it among the jobs.</p>
    <${Outcome} action=${action} />
  <//>`;
}
