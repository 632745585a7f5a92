/** A dataset from the user's machine: a zip, or a folder that the page packs into one. */

import { html, useState } from "../../lib/html.js";
import { DropZone, Outcome, useAction } from "../../lib/controls.js";
import { isImage } from "../../lib/files.js";
import { Meter, plural } from "../../lib/parts.js";
import { transfer } from "../../lib/transfer.js";
import { bytes } from "../../lib/words.js";
import { pack } from "../../lib/zip.js";
import { contentOf, datasetLink, datasetPath } from "./words.js";

const TABLES = /(^|\/)(manifest\.csv|labels\.csv|manifest\.jsonl)$/;

/** `name` is given on the page of a dataset. `changed` is called after a version was stored. */
export default function Upload({ name: given, changed }) {
  const [source, setSource] = useState(null); // {blob, title}
  const [name, setName] = useState(given ?? "");
  const [part, setPart] = useState(0);
  const action = useAction();
  const choose = (files) =>
    action.run(async () => {
      const made = await sourceOf(files);
      setSource(made);
      if (!given) setName((before) => before || made.name);
    }, "Reading the files");
  const put = (event) => {
    event.preventDefault();
    action.run(async () => {
      const { value, status } = await transfer("PUT", datasetPath(name.trim()), source.blob, { headers: { "Content-Type": "application/zip" }, progress: setPart });
      setSource(null);
      changed();
      const words = status === 201 ? `${value.name} version ${value.version} is stored. ${contentOf(value)}.` : `${value.name} version ${value.version} already has exactly these images, so nothing changed.`;
      const warnings = value.report.warnings.length;
      return { words: warnings ? `${words} ${plural(warnings, "warning")}: look at what to check.` : words, link: html`<a href=${datasetLink(value.name)}>Open ${value.name}</a>` };
    }, "Sending; then the server reads every image");
  };
  return html`<div class=${given ? "upload" : "upload part"}>
    <${DropZone} title="Drop a zip or a folder here, or choose a zip" accept=".zip" chosen=${choose}
      note="One subfolder for each label, or a manifest.csv with the columns path and label. The server checks everything before it keeps anything." />
    ${source && html`<form class="fields" onSubmit=${put}>
      <p><b>${source.title}</b> <span class="quiet">${bytes(source.blob.size)}</span></p>
      ${!given && html`<label class="field">Name on this server<input value=${name} required maxlength="64" autocomplete="off" spellcheck="false" onInput=${({ target }) => setName(target.value)} /></label>`}
      <button class="primary" disabled=${action.busy}>Upload</button>
    </form>`}
    ${source && action.busy && html`<p class="upload-bar"><${Meter} label="Sent" value=${part} /></p>`}
    <${Outcome} action=${action} />
  </div>`;
}

/** One zip as it is; of folders, the images and a table of labels, without the folder that holds them all. */
async function sourceOf(files) {
  const [{ file, path }] = files;
  if (files.length === 1 && /\.zip$/i.test(file.name)) return { blob: file, title: file.name, name: nameFrom(file.name) };
  const kept = files.filter((each) => isImage(each.file) || TABLES.test(each.path));
  const depth = kept.every((each) => each.path.split("/").length > 2 || TABLES.test(each.path)) ? 1 : 0;
  const blob = await pack(kept.map((each) => ({ path: each.path.split("/").slice(depth).join("/"), blob: each.file })));
  const folder = path.split("/")[0];
  return { blob, title: `${folder} (${plural(kept.length, "file")})`, name: depth ? nameFrom(folder) : "" };
}

const nameFrom = (title) => title.replace(/\.zip$/i, "").replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[^A-Za-z0-9]+/, "").slice(0, 64);
