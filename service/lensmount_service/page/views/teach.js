/** Teach: images of each class become a first draft that answers in seconds, and then a trained adapter. */

import { html } from "../lib/html.js";
import { Empty, plural } from "../lib/parts.js";
import { useSession } from "../lib/session.js";
import { address } from "../lib/route.js";
import { conflicts, missing } from "./teach/advice.js";
import { Column } from "./teach/column.js";
import { Intake } from "./teach/intake.js";
import { Notices } from "./teach/notices.js";
import { asName } from "./teach/placing.js";
import { Steps } from "./teach/steps.js";
import { task, useTask } from "./teach/task.js";
import { teach } from "./teach/teaching.js";
import { Training } from "./teach/training.js";

const BUSY = ["sending", "drafting", "submitting"];

/** The token is forgotten: so are the images. */
export const forget = () => task.forget();

export default function Teach({ route }) {
  const session = useSession();
  const state = useTask(`${session.who.tenant} ${session.who.actor}`);
  const linked = route.query.get("job");
  if (session.volumes) {
    return html`<h2>Teach</h2><${Empty} title="This server reads volumes">Teach it from the command line: <code>lensmount jobs submit --data FOLDER --adapter NAME</code>.<//>`;
  }
  if (!state) return null;
  if (linked && linked !== state.run?.jobId) {
    return html`<h2>Teaching ${route.rest[0]}</h2>
      <div class="steps"><${Training} id=${linked} ended=${() => session.reload()} /></div>
      <p><a href=${address("teach")}>Teach something else</a></p>`;
  }
  return html`<div class="teach">
    <div class="bar">
      <h2>Teach</h2>
      ${(state.images.length > 0 || state.run) && html`<button type="button" onClick=${startOver}>Start over</button>`}
    </div>
    ${!state.run && html`<p class="lead">Show some images of each class, and the server learns to tell them apart. With 5 of each there is a first draft
      in seconds, and with 20 of each it is trained. The images stay in this browser until you press Teach.</p>`}
    ${state.run && html`<${Steps} state=${state} session=${session} />`}
    <${Images} state=${state}>
      <${Intake} limits=${session.limits} empty=${!state.images.length} />
      <${Notices} state=${state} />
      <${Columns} state=${state} limits=${session.limits} />
      <${Send} state=${state} session=${session} />
    <//>
  </div>`;
}

/** The images, folded away while the server learns from them. */
function Images({ state, children }) {
  if (!state.run) return children;
  return html`<details class="images" open=${["drafted", "stopped"].includes(state.run.phase)}>
    <summary>${plural(state.images.length, "image")}: add or remove some, and teach again</summary>
    ${children}
  </details>`;
}

function startOver() {
  task.forget();
  if (location.hash !== "#/teach") location.replace(address("teach"));
}

function Columns({ state, limits }) {
  const clashing = new Set(conflicts(state).map(({ digest }) => digest));
  const ofClass = new Map(state.classes.map(({ id }) => [id, []]));
  for (const image of state.images) ofClass.get(image.classId)?.push(image);
  return html`<div class="class-columns">
    ${state.classes.map((each) => html`<${Column} key=${each.id} each=${each} images=${ofClass.get(each.id)} clashing=${clashing} limits=${limits} />`)}
    <button type="button" class="add-class" onClick=${task.addClass}>Add a class</button>
  </div>`;
}

/** The name of the task, what is still missing, and the button. */
function Send({ state, session }) {
  const busy = state.reading || BUSY.includes(state.run?.phase);
  const lack = missing(state) ?? (state.name ? null : "Give the task a name.");
  const known = session.adapters.find(({ name }) => name === state.name);
  const type = (event) => task.change({ name: asName(event.target.value), named: true });
  const submit = (event) => {
    event.preventDefault();
    if (!lack && !busy) teach(session);
  };
  return html`<form class="send" onSubmit=${submit}>
    <label>Name of the task <input value=${state.name} onChange=${type} placeholder="oak-leaves" maxlength="48" spellcheck="false" autocomplete="off" /></label>
    <label>The images look right
      <select value=${state.options.augment ?? "photo"} onChange=${(event) => task.change({ options: { ...state.options, augment: event.target.value } })}>
        <option value="photo">only upright, as photos</option>
        <option value="microscopy">turned any way, as under a microscope</option>
        <option value="tissue">turned any way, as stained tissue</option>
      </select>
    </label>
    <button class="primary" disabled=${Boolean(lack || busy)} aria-describedby="send-note">${state.run ? "Teach again" : "Teach"}</button>
    <p id="send-note" class="quiet" role="status">${lack ?? (known ? `${state.name} exists as version ${known.version}. This makes its next version.` : "Ready.")}</p>
  </form>`;
}
