/** Controls that change something on the server: what they wait for, what went wrong, who was first, and the way back. */

import { html, useEffect, useRef, useState } from "./html.js";
import { asProblem } from "./api.js";
import { ProblemBox, Waiting } from "./parts.js";
import { fromDrop, fromInput } from "./files.js";

/**
 * One change at a time: {busy, problem, done, run(work, words), clear()}. `words` are said when `work` has succeeded;
 * `undo` of what it returns ({words, undo}) becomes a button.
 */
export function useAction() {
  const [state, setState] = useState({});
  const mounted = useRef(true);
  useEffect(() => () => (mounted.current = false), []);
  const set = (next) => mounted.current && setState(next);
  const run = async (work, busy = "Working") => {
    set({ busy });
    try {
      const done = (await work()) ?? {};
      set(done.words ? { done } : {});
      return true;
    } catch (error) {
      set({ problem: asProblem(error) });
      return false;
    }
  };
  return { ...state, run, clear: () => set({}) };
}

/** What an action waits for, says or failed with. `first` finds in words who was first, after a conflict. */
export function Outcome({ action, first, reload }) {
  return html`<div class="outcome" aria-live="polite">
    ${action.busy && html`<${Waiting}>${action.busy}<//>`}
    ${action.done && html`<p class="said">
      <span>${action.done.words}</span>
      ${action.done.undo && html`<button type="button" onClick=${() => action.run(action.done.undo, "Undoing")}>Undo</button>`}
      ${action.done.link}
    </p>`}
    ${action.problem?.status === 412 && html`<${Conflict} problem=${action.problem} first=${first} reload=${() => (action.clear(), reload())} />`}
    ${action.problem && action.problem.status !== 412 && html`<${ProblemBox} problem=${action.problem} />`}
  </div>`;
}

/** Somebody changed the same thing since this page read it. Nothing of the user's change was done. */
function Conflict({ problem, first, reload }) {
  const [who, setWho] = useState("");
  useEffect(() => void first?.().then(setWho, () => {}), [problem]);
  return html`<div class="problem" role="alert">
    <b>Somebody was faster</b>
    <p>${who || "This was changed after the page read it."} Your change was not made. Look at the present state first, then decide again.</p>
    <button type="button" onClick=${reload}>Show the present state</button>
  </div>`;
}

/** A button that asks before it acts. `children` say what will happen. */
export function Asks({ label, title, yes = label, danger = true, disabled, act, children }) {
  const dialog = useRef();
  const agreed = (event) => {
    event.preventDefault();
    dialog.current.close();
    act();
  };
  return html`<button type="button" class=${danger ? "danger" : ""} disabled=${disabled} onClick=${() => dialog.current.showModal()}>${label}</button>
    <dialog ref=${dialog} aria-label=${title}>
      <form onSubmit=${agreed}>
        <h3>${title}</h3>
        <p>${children}</p>
        <p class="row-end">
          <button type="button" onClick=${() => dialog.current.close()}>Cancel</button>
          <button class=${danger ? "primary danger" : "primary"}>${yes}</button>
        </p>
      </form>
    </dialog>`;
}

/** A place to drop files and folders, which is a file input as well. `chosen` gets [{file, path}]. */
export function DropZone({ title, note, accept, chosen, disabled }) {
  const [over, setOver] = useState(false);
  const drop = async (event) => {
    event.preventDefault();
    setOver(false);
    const found = await fromDrop(event.dataTransfer);
    if (found.length) chosen(found);
  };
  const drag = (event) => {
    event.preventDefault();
    setOver(event.type === "dragover");
  };
  return html`<label class=${over ? "dropzone over" : "dropzone"} onDragOver=${drag} onDragLeave=${drag} onDrop=${drop}>
    <input type="file" multiple accept=${accept} disabled=${disabled} aria-label=${title}
      onChange=${({ target }) => target.files.length && chosen(fromInput(target))} />
    <span><b>${title}</b></span>
    <span class="quiet">${note}</span>
  </label>`;
}

/** Text that is for another program, with a button that copies it. */
export function Copied({ label, text }) {
  const [said, setSaid] = useState("");
  const code = useRef();
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setSaid("Copied");
    } catch {
      getSelection().selectAllChildren(code.current); // without HTTPS there is no clipboard
      setSaid("Press Ctrl+C to copy");
    }
  };
  return html`<span class="copied"><code ref=${code} tabindex="0" aria-label=${label}>${text}</code>
    <button type="button" aria-label="Copy: ${label}" onClick=${copy}>Copy</button>
    <span class="quiet" role="status">${said}</span></span>`;
}

/** Facts as a list of names and values; rows without a value are left out. */
export const Facts = ({ rows }) => html`<dl class="facts">
  ${rows.filter(([, value]) => ![null, undefined, false, ""].includes(value)).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
</dl>`;

/** A part of a view below a heading, with controls next to it. */
export const Part = ({ title, side, children }) => html`<section class="part">
  <div class="part-head"><h3>${title}</h3>${side && html`<div class="side">${side}</div>`}</div>
  ${children}
</section>`;

/** A table that scrolls by itself where the window is narrow, also by the keyboard. The first cell of a row is its name. */
export const Table = ({ label, columns, rows, text, marked = () => false }) => html`<div class="scrolls" tabindex="0" role="region" aria-label=${label}>
  <table class=${text ? "figures text" : "figures"}>
    <thead><tr>${columns.map((name) => html`<th key=${name} scope="col">${name}</th>`)}</tr></thead>
    <tbody>${rows.map((cells, row) => html`<tr key=${row}>
      ${cells.map((cell, column) => (column ? html`<td class=${marked(row, column) ? "same" : ""}>${cell}</td>` : html`<th scope="row">${cell}</th>`))}
    </tr>`)}</tbody>
  </table>
</div>`;
