/** "Wrong? Say what it is": sends an image with its right label to the server, which keeps both to learn from. */

import { html, useState } from "../../lib/html.js";
import { asProblem, correct } from "../../lib/api.js";
import { ProblemBox } from "../../lib/parts.js";
import { address } from "../../lib/route.js";
import { useSession } from "../../lib/session.js";

/** Nothing on a server that keeps no images: GET /limits says so. `labels` are those of the adapter. */
export function Feedback({ file, answer, labels, title }) {
  const { limits, may } = useSession();
  const [open, setOpen] = useState(false);
  const [state, setState] = useState({});
  const { adapter, predictions, request_id: request } = answer;
  if (!limits.feedback) return null;
  if (state.sent) {
    const again = html`<button type="button" class="plain" onClick=${() => setState({})}>Change it</button>`;
    const where = may("train") ? html`<a href=${address("correct")}>${state.sent.dataset}</a>` : state.sent.dataset;
    return html`<p class="thanks" role="status">Thank you: ${title(state.sent.label)}. The image waits in ${where}. ${again}</p>`;
  }
  const send = async (event) => {
    event.preventDefault();
    const { label, who } = Object.fromEntries(new FormData(event.target));
    setState({ waiting: true });
    try {
      setState({ sent: await correct(file, { adapter: `${adapter.name}@${adapter.digest}`, label, who, answer: request }) });
    } catch (error) {
      setState({ problem: asProblem(error) });
    }
  };
  if (!open) return html`<button type="button" onClick=${() => setOpen(true)}>Wrong? Say what it is</button>`;
  return html`<form class="correction" onSubmit=${send}>
    <label>It is
      <select name="label" required>
        ${labels.map((label) => html`<option key=${label} value=${label} selected=${label === predictions[1]?.label}>${title(label)}</option>`)}
      </select>
    </label>
    <${Person} />
    <p class="quiet">The server keeps this image with your answer, so that a later version can learn from it.</p>
    <button disabled=${state.waiting}>Send</button>
    <button type="button" class="plain" onClick=${() => setOpen(false)}>Cancel</button>
    ${state.problem && html`<${ProblemBox} problem=${state.problem} />`}
  </form>`;
}

/** Who says so: the token's name, or on a server without tokens the name that was typed last. */
function Person() {
  const { who } = useSession();
  const [name, setName] = useState(() => (who.actor === "loopback" ? typed : who.actor));
  const change = (event) => {
    typed = event.target.value;
    setName(typed);
  };
  return html`<label>Your name <input name="who" required maxlength="64" autocomplete="nickname" value=${name} onInput=${change} /></label>`;
}

let typed = "";
