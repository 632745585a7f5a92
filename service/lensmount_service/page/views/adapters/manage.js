/** An adapter for other tools and other people, and its end. */

import { html, useState } from "../../lib/html.js";
import { get, send } from "../../lib/api.js";
import { Asks, Outcome, Part, useAction } from "../../lib/controls.js";
import { download } from "../../lib/download.js";
import { useAsked } from "../../lib/parts.js";
import { address } from "../../lib/route.js";
import { useSession } from "../../lib/session.js";
import { pathOf } from "./words.js";
import { firstOf } from "./versions.js";

const FORMATS = {
  lensmount: ["Lensmount", "The adapter file itself, byte for byte, for another Lensmount server."],
  peft: ["PEFT", "A folder that Hugging Face PEFT loads onto the same network in PyTorch."],
  lycoris: ["LyCORIS", "Factors as LyCORIS and kohya's scripts read them."],
  timm: ["timm", "The whole network with the adapter merged in, for PyTorch and timm."],
  onnx: ["ONNX", "A complete program for ONNX Runtime and other engines, without PyTorch."],
  openvino: ["OpenVINO", "A complete program for Intel processors."],
  torchscript: ["TorchScript", "A complete program for PyTorch without Python, also in C++."],
};

export default function Manage({ adapter, tag, changed }) {
  return html`<${Export} adapter=${adapter} /><${Share} adapter=${adapter} changed=${changed} /><${Remove} adapter=${adapter} tag=${tag} changed=${changed} />`;
}

function Export({ adapter: { name, version, versions } }) {
  const [to, setTo] = useState("lensmount");
  const [number, setNumber] = useState(version);
  const action = useAction();
  const submit = (event) => {
    event.preventDefault();
    action.run(async () => {
      if (to === "lensmount") await download(`${pathOf(name)}/file?version=${number}`, `${name}-${number}.safetensors`);
      else await download(`${pathOf(name)}/export?to=${to}&version=${number}`, `${name}-${number}-${to}.zip`);
      return { words: `Version ${number} is in your downloads.${to === "lensmount" ? "" : " README.md in the zip says how to load it."}` };
    }, "The server prepares the file");
  };
  return html`<${Part} title="Use it elsewhere">
    <form class="fields" onSubmit=${submit}>
      <label class="field">Format<select value=${to} onChange=${({ target }) => setTo(target.value)}>
        ${Object.entries(FORMATS).map(([key, [title]]) => html`<option key=${key} value=${key}>${title}</option>`)}
      </select></label>
      <label class="field">Version<select value=${number} onChange=${({ target }) => setNumber(Number(target.value))}>
        ${[...versions].reverse().map((each) => html`<option key=${each} value=${each}>version ${each}</option>`)}
      </select></label>
      <button class="primary" disabled=${action.busy}>Download</button>
    </form>
    <p class="quiet">${FORMATS[to][1]} The first download in a format takes some seconds.</p>
    <${Outcome} action=${action} />
  <//>`;
}

function Share({ adapter: { name, digest }, changed }) {
  const { value, reload } = useAsked(() => get("adapters?public=true"), [name]);
  const [title, setTitle] = useState(name);
  const action = useAction();
  const shared = value?.adapters.filter((each) => each.digest === digest).map((each) => each.name) ?? [];
  const change = (method, path, words) =>
    action.run(async () => {
      await send(method, path);
      reload();
      await changed();
      return { words };
    });
  const share = (event) => {
    event.preventDefault();
    change("PUT", `${pathOf(name)}/shared?as=${encodeURIComponent(title.trim())}`, `Everybody on this server can ask public/${title.trim()} now.`);
  };
  return html`<${Part} title="Share it with everybody on this server">
    ${shared.length
      ? html`<p>Everybody can ask it as <b>${shared.join(", ")}</b>, with its later versions.</p>
        <button type="button" disabled=${action.busy} onClick=${() => change("DELETE", `${pathOf(name)}/shared`, "It is shared no longer.")}>Stop sharing</button>`
      : html`<p class="quiet">Other groups on this server then ask it and read its card under a public name. They cannot change it.</p>
        <form class="fields" onSubmit=${share}>
          <label class="field">Public name<input value=${title} required maxlength="64" onInput=${({ target }) => setTitle(target.value)} /></label>
          <button disabled=${action.busy}>Share</button>
        </form>`}
    <${Outcome} action=${action} reload=${changed} />
  <//>`;
}

function Remove({ adapter: { name, versions }, tag, changed }) {
  const { reload } = useSession();
  const [gone, setGone] = useState(false);
  const action = useAction();
  const remove = () =>
    action.run(async () => {
      await send("DELETE", pathOf(name), null, { "If-Match": tag });
      setGone(true);
      const undo = async () => {
        await send("POST", `${pathOf(name)}/undelete`);
        setGone(false);
        await changed();
        return { words: `${name} is back with its versions and aliases.` };
      };
      await reload();
      return { words: `${name} was deleted.`, undo, link: html`<a href=${address("adapters")}>To the list</a>` };
    }, "Deleting");
  return html`<${Part} title="Delete it">
    ${!gone && html`<p>Requests for <b>${name}</b> then fail, by all its ${versions.length > 1 ? `${versions.length} versions and ` : ""}aliases. You can bring it back from the list of adapters for some days.</p>
      <${Asks} label="Delete ${name}" title="Delete ${name} with all its versions?" yes="Delete it" disabled=${action.busy} act=${remove}>
        Programs that ask it get an error from now on. You can undo this.
      <//>`}
    <${Outcome} action=${action} first=${firstOf(name)} reload=${changed} />
  <//>`;
}
