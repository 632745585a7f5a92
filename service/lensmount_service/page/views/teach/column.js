/** One class: its name, how many images it has and needs, their thumbnails, and ways to add more. */

import { html, useEffect, useMemo, useRef, useState } from "../../lib/html.js";
import { fromDrop, fromInput, fromPaste } from "../../lib/files.js";
import { plural } from "../../lib/parts.js";
import { Camera, hasCamera } from "../../lib/webcam.js";
import { DRAFT, need, TRAIN } from "./advice.js";
import { task } from "./task.js";

const SHOWN = 60; // thumbnails until the user asks for all

/** `images` are those of the class; `clashing` has the digests that another class has as well. */
export function Column({ each, images, clashing, limits }) {
  const [over, setOver] = useState(false);
  const [camera, setCamera] = useState(false);
  const input = useRef();
  const add = (found) => task.add(found, limits, each.id);
  const drop = async (event) => {
    event.preventDefault();
    event.stopPropagation();
    setOver(false);
    add(await fromDrop(event.dataTransfer));
  };
  const paste = (event) => {
    const found = fromPaste(event);
    if (found.length) add(found);
  };
  const count = images.length;
  return html`<section class=${`column ${over ? "over" : ""}`} aria-label=${`Class ${each.name}`}
      onDragOver=${(event) => (event.preventDefault(), setOver(true))} onDragLeave=${() => setOver(false)} onDrop=${drop} onPaste=${paste}>
    <div class="title">
      <input value=${each.name} aria-label="Name of the class" maxlength="100" spellcheck="false"
        onInput=${(event) => task.rename(each.id, event.target.value)} onFocus=${(event) => !each.given && event.target.select()} />
      <button type="button" class="quiet-button" aria-label=${`Remove the class ${each.name}`} title="Remove this class"
        onClick=${() => task.removeClass(each.id)}>×</button>
    </div>
    <p class="quiet"><b>${plural(count, "image")}</b>, ${need(count)}</p>
    <div class="meter" aria-hidden="true"><div class=${count < DRAFT ? "few" : ""} style=${{ width: `${Math.min(100, (100 * count) / TRAIN)}%` }}></div></div>
    ${camera && html`<${Camera} taken=${(file) => add([{ file, path: `${Date.now()} ${file.name}` }])} close=${() => setCamera(false)} />`}
    <div class="choices">
      <button type="button" onClick=${() => input.current.click()} aria-label=${`Add images to ${each.name}`}>Add images</button>
      ${hasCamera() && !camera && html`<button type="button" onClick=${() => setCamera(true)} aria-label=${`Take images for ${each.name}`}>Camera</button>`}
      <input ref=${input} type="file" multiple hidden aria-label=${`Images of ${each.name}`} onChange=${(event) => add(fromInput(event.target))} />
    </div>
    ${count ? html`<${Thumbnails} images=${images} clashing=${clashing} label=${each.name} />` : html`<p class="place quiet">Drop or paste images of this class here</p>`}
  </section>`;
}

function Thumbnails({ images, clashing, label }) {
  const [all, setAll] = useState(false);
  const shown = all ? images : images.slice(0, SHOWN);
  return html`<ul class="thumbnails" aria-label=${`Images of ${label}`}>
      ${shown.map((image) => html`<${Thumbnail} key=${image.id} image=${image} clash=${clashing.has(image.digest)} />`)}
    </ul>
    ${shown.length < images.length && html`<button type="button" class="more" onClick=${() => setAll(true)}>Show all ${images.length}</button>`}`;
}

function Thumbnail({ image, clash }) {
  const name = image.path.split("/").at(-1);
  const remark = clash ? "in two classes" : image.doubt;
  return html`<li class=${clash ? "clash" : image.doubt ? "doubt" : ""} title=${remark ? `${name}: ${remark}` : name}>
    ${image.thumb ? html`<${Picture} blob=${image.thumb} alt=${name} />` : html`<span class="name">${name}</span>`}
    ${remark && html`<span class="remark">${remark}</span>`}
    <button type="button" aria-label=${`Remove ${name}`} onClick=${() => task.removeImages([image.id])}>×</button>
  </li>`;
}

/** An image of this page; its address is given back when it is no longer shown. */
export function Picture({ blob, alt }) {
  const url = useMemo(() => URL.createObjectURL(blob), [blob]);
  useEffect(() => () => URL.revokeObjectURL(url), [url]);
  return html`<img src=${url} alt=${alt} loading="lazy" />`;
}
