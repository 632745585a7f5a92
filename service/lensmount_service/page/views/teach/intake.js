/** Ways to bring many images at once: a folder with one folder for each class, a zip of one, or the leaves to try it with. */

import { html, useRef, useState } from "../../lib/html.js";
import { picture } from "../../lib/api.js";
import { fromDrop, fromInput } from "../../lib/files.js";
import { unpack } from "../../lib/zip.js";
import { task } from "./task.js";

const LEAVES = "page/samples/leaves.zip";
const FOR_LEAVES = { augment: "microscopy", size: 96, epochs: 30 }; // as the quickstart trains them

/** Adds found files, and those inside of zips. Returns what went wrong, in words. */
export async function addAll(found, limits) {
  const files = [];
  const problems = [];
  for (const each of found) {
    if (!/\.zip$/i.test(each.path)) files.push(each);
    else {
      try {
        files.push(...(await inside(each.file)));
      } catch (error) {
        problems.push(`${each.path}: ${error.message}`);
      }
    }
  }
  await task.add(files, limits);
  return problems;
}

const inside = async (zip) =>
  (await unpack(zip)).filter(({ path }) => !/(^|\/)(\.|__MACOSX\/)/.test(path)).map(({ path, blob }) => ({ path, file: new File([blob], path.split("/").at(-1)) }));

export function Intake({ limits, empty }) {
  const [over, setOver] = useState(false);
  const [problems, setProblems] = useState([]);
  const folder = useRef();
  const bring = async (found) => setProblems(await addAll(await found, limits));
  const leaves = async () => {
    task.change({ options: FOR_LEAVES, name: "leaves", named: false });
    const zip = await picture(LEAVES);
    bring([{ path: "leaves.zip", file: zip }]);
  };
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    bring(fromDrop(event.dataTransfer));
  };
  return html`<div class=${`intake ${over ? "over" : ""}`} onDragOver=${(event) => (event.preventDefault(), setOver(true))}
      onDragLeave=${() => setOver(false)} onDrop=${drop}>
    <p><b>Drop a folder with one folder of images for each class</b>, or fill the classes below one by one.</p>
    <div class="choices">
      <button type="button" onClick=${() => folder.current.click()}>Choose a folder</button>
      ${empty && html`<button type="button" onClick=${leaves}>Try this: 60 drawn leaves of three trees</button>`}
    </div>
    <input ref=${folder} type="file" webkitdirectory multiple hidden aria-label="A folder of class folders" onChange=${(event) => bring(fromInput(event.target))} />
    ${problems.map((text) => html`<p class="problem" role="alert">${text}</p>`)}
  </div>`;
}
