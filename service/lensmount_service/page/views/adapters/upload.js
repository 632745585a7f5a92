/** An adapter file from the user's machine: checked by the server, or imported if another tool wrote it. */

import { html, useState } from "../../lib/html.js";
import { get } from "../../lib/api.js";
import { DropZone, Outcome, useAction } from "../../lib/controls.js";
import { Meter, plural } from "../../lib/parts.js";
import { useSession } from "../../lib/session.js";
import { transfer } from "../../lib/transfer.js";
import { bytes, listed } from "../../lib/words.js";
import { pack } from "../../lib/zip.js";
import Import, { Extract } from "./import.js";
import { promisesOf } from "./promises.js";
import { linkTo, methodWords, pathOf } from "./words.js";

const MAX_HEADER = 4 << 20;
const KINDS = ".safetensors,.zip,.bin,.pt,.pth,.ckpt,.json";

/** `name` is given on the page of an adapter, with its present ETag `tag`; otherwise the file or the user says it. */
export default function Upload({ name: given, tag, changed = () => {} }) {
  const [source, setSource] = useState(null); // {blob, title, own}
  const action = useAction();
  const choose = (files) =>
    action.run(async () => {
      const one = files.length === 1 ? files[0].file : null;
      const parts = files.map(({ file, path }) => ({ path, blob: file }));
      const blob = one ?? (await pack(parts)); // PEFT writes a folder
      const manifest = one && (await manifestOf(one));
      const title = one ? one.name : `${files[0].path.split("/")[0]} (${plural(files.length, "file")})`;
      setSource({ blob, files: parts, title, manifest, folder: !one, name: given ?? manifest?.name ?? nameFrom(title) });
    }, "Reading the file");
  return html`<div class=${given ? "upload" : "upload part"}>
    <${DropZone} title="Drop an adapter file here, or choose one" accept=${KINDS} chosen=${choose}
      note="A .safetensors file of Lensmount, or an adapter of PEFT, LyCORIS or kohya's scripts: a file, a zip or a folder. The server checks it before it keeps anything." />
    <${Outcome} action=${action} />
    ${source && html`<${Send} key=${source.title} source=${source} given=${given} tag=${tag} changed=${changed} />`}
  </div>`;
}

function Send({ source, given, tag, changed }) {
  const session = useSession();
  const [name, setName] = useState(source.name);
  const [importing, setImporting] = useState(source.folder);
  const [part, setPart] = useState(0);
  const [stored, setStored] = useState(null);
  const action = useAction();
  const known = session.adapters.find((adapter) => adapter.name === name.trim());
  const put = (rounded) =>
    action.run(async () => {
      const match = given && tag ? { "If-Match": tag } : {};
      const { value, status } = await transfer("PUT", `${pathOf(name.trim())}${rounded ? "?accept_rounded_backbone=true" : ""}`, source.blob, { headers: match, progress: setPart });
      setStored({ ...value, fresh: status === 201, detail: await get(pathOf(value.name)) });
      await session.reload();
      changed();
    }, "Sending the file; the server checks it");
  if (stored) return html`<${Stored} stored=${stored} />`;
  if (importing) return html`<${Import} source=${source} name=${name.trim()} given=${given} changed=${changed} />`;
  const foreign = action.problem && foreignOf(action.problem);
  const rounded = action.problem?.detail.includes("accept-rounded-backbone");
  return html`<form class="fields" onSubmit=${(event) => (event.preventDefault(), put(false))}>
      <p><b>${source.title}</b> <span class="quiet">${bytes(source.blob.size)}${source.manifest ? `, made as ${source.manifest.name}: ${listed(source.manifest.labels ?? [])}` : ""}</span></p>
      ${!given && html`<label class="field">Name on this server<input value=${name} required maxlength="64" autocomplete="off" spellcheck="false" onInput=${({ target }) => setName(target.value)} /></label>`}
      <button class="primary" disabled=${action.busy}>${known ? `Upload as the next version of ${name.trim()}` : "Upload as a new adapter"}</button>
    </form>
    ${action.busy && html`<p class="upload-bar"><${Meter} label="Sent" value=${part} /></p>`}
    ${action.problem?.status === 412
      ? html`<${Outcome} action=${action} first=${async () => `${name} got another version meanwhile.`} reload=${changed} />`
      : !foreign && html`<${Outcome} action=${action} />`}
    <${Extract} problem=${action.problem} />
    ${foreign && html`<div class="said" role="status"><span>This is ${foreign}. The server can turn it into an adapter, and says what becomes of each part.</span>
      <button type="button" class="primary" onClick=${() => setImporting(true)}>Import it</button></div>`}
    ${rounded && html`<div class="said"><span>The file fits the same network in another precision. The server can adapt it and measure how much its answers change.</span>
      <button type="button" class="primary" onClick=${() => put(true)}>Upload it all the same</button></div>`}`;
}

/** What another tool's file is, by the message of PUT; null for a file that cannot be imported. */
const foreignOf = ({ detail }) => (detail.includes("lensmount adapters import") ? (/^found (.+?), expected/.exec(detail)?.[1] ?? "a file of another tool") : null);

function Stored({ stored: { name, version, fresh, note, detail } }) {
  return html`<div class="said stored"><div>
    <p><b>${fresh ? `${name} version ${version} is stored and answers now.` : `${name} version ${version} already had these bytes, so nothing changed.`}</b></p>
    <p>The server checked the whole file. It changes ${methodWords(detail.method)} in ${plural(Object.keys(detail.manifest.modules ?? {}).length, "layer")} of ${detail.backbone.name}, and it tells ${listed(detail.labels, 20)} apart.</p>
    ${note && html`<p>${note}</p>`}
    <ul class="plain">${promisesOf(detail.trust).map((sentence) => html`<li key=${sentence}>${sentence}</li>`)}</ul>
    <p><a href=${linkTo(name)}>Open ${name}</a></p>
  </div></div>`;
}

/** The manifest in the header of an adapter file; null for another file. The server checks it in full. */
async function manifestOf(file) {
  try {
    const length = Number(new DataView(await file.slice(0, 8).arrayBuffer()).getBigUint64(0, true));
    if (length > MAX_HEADER) return null;
    const header = JSON.parse(await file.slice(8, 8 + length).text());
    return JSON.parse(header.__metadata__.lensmount);
  } catch {
    return null;
  }
}

const nameFrom = (title) => title.replace(/\.\w+$/, "").replace(/ \(.*$/, "").replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[^A-Za-z0-9]+/, "").slice(0, 64).toLowerCase();
