/** The adapters, by what they tell: which are there, which can run on this server, and which are asked. */

import { html, useMemo, useState } from "../../lib/html.js";
import { Badge, Empty, number } from "../../lib/parts.js";
import { address } from "../../lib/route.js";
import { useSession } from "../../lib/session.js";
import { titleOf } from "../../lib/titles.js";

const SEARCHED_FROM = 7; // adapters
const NAMED = 8; // labels

export function Picker({ picks, pick }) {
  const { adapters, reload, limits } = useSession();
  const [query, setQuery] = useState("");
  const words = useMemo(() => adapters.map((adapter) => wordsOf(adapter)), [adapters]);
  const wanted = query.trim().toLowerCase();
  const picked = (name) => picks.some((each) => each.name === name);
  const shown = adapters.filter(({ name }, at) => picked(name) || words[at].includes(wanted));
  const full = picks.length >= limits.max_adapters_per_request;
  const place = ({ name }) => adapters.findIndex((adapter) => adapter.name === name);
  const toggle = ({ name }) => {
    const others = picks.filter((each) => each.name !== name);
    pick(picked(name) ? others : [...others, { name, at: "" }].toSorted((a, b) => place(a) - place(b))); // in the order of the list
  };
  return html`<section class="picker" aria-label="What to ask">
    <div class="bar">
      <h2>What to ask</h2>
      <button type="button" class="plain" onClick=${reload}>Refresh</button>
    </div>
    ${adapters.length >= SEARCHED_FROM &&
    html`<input type="search" aria-label="Search adapters" placeholder="Search ${number(adapters.length)} adapters" value=${query} onInput=${(event) => setQuery(event.target.value)} />`}
    <ul id="adapters" aria-label="Adapters">
      ${shown.map((adapter) => html`<${Item} key=${adapter.name} adapter=${adapter} picked=${picked(adapter.name)} full=${full} toggle=${toggle} />`)}
    </ul>
    ${!adapters.length && html`<${NoAdapters} />`}
    ${adapters.length > 0 && !shown.length && html`<p class="quiet" role="status">No adapter has “${query.trim()}” in its name or labels.</p>`}
    <${Versions} picks=${picks} pick=${pick} full=${full} />
  </section>`;
}

const wordsOf = ({ name, labels, titles }) => [name, ...labels, ...Object.values(titles ?? {})].join("\n").toLowerCase();

function Item({ adapter, picked, full, toggle }) {
  const { name, labels, status, digest, version } = adapter;
  const ready = status === "ready";
  const many = labels.length > NAMED ? `, … (${number(labels.length)} in total)` : "";
  return html`<li>
    <label title=${digest}>
      <input type="checkbox" value=${name} checked=${picked} disabled=${!ready || (full && !picked)} onChange=${() => toggle(adapter)} />
      <span class="name"><b>${name}</b> <span class="quiet">version ${version}</span></span>
      <span class="tells">${labels.slice(0, NAMED).map((label) => titleOf(adapter, label)).join(", ")}${many}</span>
      <span class="state">
        ${!ready && html`<${Badge} kind="wrong">${stateOf(adapter)}<//>`}
        ${Object.entries(adapter.rollouts ?? {}).map(([alias, rollout]) => html` <${Badge} key=${alias}>${trial(alias, rollout)}<//>`)}
      </span>
    </label>
  </li>`;
}

const stateOf = ({ status, backbone }) => (status === "backbone_mismatch" ? `needs ${backbone.name}` : status);

/** An alias for which another version is tried. */
function trial(alias, { canary, shadow }) {
  const words = [canary && `canary ${canary.version} gets ${canary.percent} %`, shadow && `shadow ${shadow.version}`];
  return `${alias}: ${words.filter(Boolean).join(", ")}`;
}

function NoAdapters() {
  const { may } = useSession();
  return html`<${Empty} title="There are no adapters yet">
    ${may("train") && html`<a href=${address("teach")}>Teach one</a> from your own images. `}
    To upload one, run: <code>lensmount adapters push FILE</code>
  <//>`;
}

/** Which version of each picked adapter answers, if there are several; a second one can be asked as well. */
function Versions({ picks, pick, full }) {
  const { adapters } = useSession();
  const rows = picks.map((each, at) => ({ ...each, position: at, adapter: adapters.find(({ name }) => name === each.name) }));
  const several = rows.filter(({ adapter }) => adapter.versions.length > 1 || Object.keys(adapter.aliases).length);
  if (!several.length) return null;
  const change = (position, at) => pick(picks.map((each, row) => (row === position ? { ...each, at } : each)));
  const compare = ({ name, adapter }, position) => {
    const others = adapter.versions.filter((version) => version !== adapter.version);
    pick(picks.toSpliced(position + 1, 0, { name, at: `@${others.at(-1)}` }));
  };
  return html`<fieldset class="versions">
    <legend>Versions</legend>
    ${several.map(({ name, at, adapter, position }) => {
      const alone = picks.filter((each) => each.name === name).length === 1;
      return html`<div key=${position}>
        <label><span>${name}</span>
          <select value=${at} aria-label=${`Version of ${name}`} onChange=${(event) => change(position, event.target.value)}>
            <option value="" selected=${at === ""}>latest (${adapter.version})</option>
            ${adapter.versions.toReversed().map((version) => html`<option value=${`@${version}`} selected=${at === `@${version}`}>version ${version}</option>`)}
            ${Object.entries(adapter.aliases).map(([alias, version]) => html`<option value=${`:${alias}`} selected=${at === `:${alias}`}>${alias} (${version})</option>`)}
            ${at.startsWith("@sha256:") && html`<option value=${at} selected>${at.slice(1, 20)}</option>`}
          </select>
        </label>
        ${alone && !full && adapter.versions.length > 1 && html`<button type="button" onClick=${() => compare({ name, adapter }, position)}>Compare with another version</button>`}
        ${!alone && html`<button type="button" aria-label=${`Do not ask this version of ${name}`} onClick=${() => pick(picks.toSpliced(position, 1))}>Remove</button>`}
      </div>`;
    })}
  </fieldset>`;
}
