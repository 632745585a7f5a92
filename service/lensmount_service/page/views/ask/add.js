/** The ways in which images come: dropped anywhere on the page, pasted, chosen, taken from a camera, or samples. */

import { html, useEffect, useRef, useState } from "../../lib/html.js";
import { fromDrop, fromInput, fromPaste, isImage } from "../../lib/files.js";
import { number, plural } from "../../lib/parts.js";
import { useSession } from "../../lib/session.js";
import { Camera, hasCamera } from "../../lib/webcam.js";
import { images } from "./images.js";
import { Samples } from "./samples.js";

const NO_CAMERA = "Browsers offer the camera only to pages that come by HTTPS or from this computer. Open the page by such an address.";

export function AddImages({ picks }) {
  const { limits, volumes } = useSession();
  const [over, setOver] = useState(false);
  const [note, setNote] = useState("");
  const [camera, setCamera] = useState(false);
  const folder = useRef();
  const add = (found) => {
    const alone = ({ path }) => !path.includes("/"); // a file that was chosen by itself is always asked, and refused in words
    const wanted = found.filter((each) => alone(each) || volumes || isImage(each.file));
    images.add(wanted);
    const left = found.length - wanted.length;
    setNote(left ? `${plural(left, "file")} of the folder ${left === 1 ? "is not an image and was" : "are not images and were"} left out.` : "");
  };
  useEffect(() => listen({ add, setOver }), []);
  const formats = volumes ? limits.volume_formats : limits.image_formats;
  const most = volumes ? limits.max_volume_bytes : limits.max_image_bytes;
  return html`<div class="add">
    <label id="drop" class=${over ? "over" : ""}>
      <span><b>Choose ${volumes ? "volumes" : "images"}</b>, drop them here, or paste one</span>
      <span class="quiet">${formats.join(", ")}; at most ${number(Math.floor(most / 2 ** 20))} MB each. Folders can be dropped too.</span>
      <input id="files" type="file" multiple onChange=${(event) => add(fromInput(event.target))} />
    </label>
    <div class="ways">
      <button type="button" onClick=${() => folder.current.click()}>Choose a folder</button>
      <input ref=${folder} type="file" webkitdirectory multiple hidden aria-label="Folder" onChange=${(event) => add(fromInput(event.target))} />
      ${!volumes && html`<button type="button" aria-expanded=${camera} disabled=${!hasCamera()} title=${hasCamera() ? undefined : NO_CAMERA} onClick=${() => setCamera(!camera)}>Use the camera</button>`}
      ${!volumes && html`<${Samples} picks=${picks} />`}
    </div>
    ${!volumes && !hasCamera() && html`<p class="quiet">${NO_CAMERA}</p>`}
    ${camera && html`<${Camera} taken=${(file) => images.add([{ file, path: file.name }])} close=${() => setCamera(false)} />`}
    <p class="quiet" role="status">${note}</p>
  </div>`;
}

/** Takes drops and pastes anywhere on the page, until the returned function is called. */
function listen({ add, setOver }) {
  const dragged = (event) => {
    if (![...event.dataTransfer.items].some(({ kind }) => kind === "file")) return;
    event.preventDefault();
    setOver(true);
  };
  const left = (event) => event.relatedTarget === null && setOver(false);
  const dropped = async (event) => {
    if (!event.dataTransfer.files.length && !event.dataTransfer.items.length) return;
    event.preventDefault();
    setOver(false);
    add(await fromDrop(event.dataTransfer));
  };
  const pasted = (event) => {
    const found = fromPaste(event);
    if (!found.length) return; // text goes into the field that has the focus
    event.preventDefault();
    add(found);
  };
  const all = { dragover: dragged, dragleave: left, drop: dropped, paste: pasted };
  for (const [name, listener] of Object.entries(all)) document.addEventListener(name, listener);
  return () => {
    for (const [name, listener] of Object.entries(all)) document.removeEventListener(name, listener);
  };
}
