/** The adapters, found by name or label and sorted; below them the ones that were deleted. */

import { html, useMemo, useState } from "../../lib/html.js";
import { Badge, Empty, number, plural } from "../../lib/parts.js";
import { address } from "../../lib/route.js";
import { useSession } from "../../lib/session.js";
import { useNarrow, useWindow } from "../../lib/window.js";
import { titleOf } from "../../lib/titles.js";
import { When } from "../../lib/words.js";
import Deleted from "./deleted.js";
import Upload from "./upload.js";
import { linkTo, tierWords, trialOf, troubleOf } from "./words.js";

const LABELS = 8; // shown; the adapter's own page has all
const NARROW = 640; // pixels, as in adapters.css
const alphabet = new Intl.Collator("en", { numeric: true });
const ORDERS = {
  name: ["Name", (a, b) => alphabet.compare(a.name, b.name)],
  newest: ["Newest first", (a, b) => (a.created_at < b.created_at) - (a.created_at > b.created_at)],
  trouble: ["Those with problems first", (a, b) => (a.status === "ready") - (b.status === "ready")],
  trial: ["Those with a rollout first", (a, b) => Object.keys(b.rollouts ?? {}).length - Object.keys(a.rollouts ?? {}).length],
};

export default function List() {
  const { adapters, may, reload } = useSession();
  const [query, setQuery] = useState("");
  const [order, setOrder] = useState("name");
  const [adding, setAdding] = useState(false);
  const rows = useMemo(
    () => adapters.map((adapter) => [adapter, [adapter.name, ...adapter.labels, ...Object.values(adapter.titles ?? {})].join("\n").toLowerCase()]),
    [adapters],
  );
  const shown = useMemo(() => {
    const wanted = query.trim().toLowerCase();
    const [, compare] = ORDERS[order];
    return rows.filter(([, words]) => words.includes(wanted)).sort(([a], [b]) => compare(a, b) || ORDERS.name[1](a, b));
  }, [rows, query, order]);
  const narrow = useNarrow(NARROW);
  const height = narrow ? 98 : 68; // as in adapters.css
  const { list, first, last } = useWindow(shown.length, height);
  const found = shown.length === adapters.length ? plural(adapters.length, "adapter") : `${number(shown.length)} of ${plural(adapters.length, "adapter")}`;
  return html`<div class="view-head">
      <h2>Adapters</h2>
      <div class="side">
        <button type="button" onClick=${reload}>Refresh</button>
        ${may("upload") && html`<button type="button" aria-expanded=${adding} onClick=${() => setAdding(!adding)}>Add an adapter file</button>`}
      </div>
    </div>
    <p class="quiet">An adapter is a small file that teaches the network one task. Each one below answers when you ask it by name.</p>
    ${adding && html`<${Upload} />`}
    ${adapters.length > 0 && html`<div class="tools">
      <label class="field">Find by name or label<input type="search" value=${query} onInput=${({ target }) => setQuery(target.value)} /></label>
      <label class="field">Sort<select value=${order} onChange=${({ target }) => setOrder(target.value)}>
        ${Object.entries(ORDERS).map(([key, [title]]) => html`<option key=${key} value=${key}>${title}</option>`)}
      </select></label>
    </div>`}
    ${adapters.length > 0 && html`<p class="quiet" role="status">${found}</p>`}
    ${shown.length > 0 && html`<ul class="adapter-rows" id="adapter-list" ref=${list} style=${{ height: `${shown.length * height}px`, paddingTop: `${first * height}px` }}>
      ${shown.slice(first, last).map(([adapter], at) => html`<${Row} key=${adapter.name} adapter=${adapter} place=${first + at + 1} count=${shown.length} />`)}
    </ul>`}
    ${!adapters.length && html`<${Empty} title="There are no adapters yet">
      ${may("train") && html`<a href=${address("teach")}>Teach one from your images</a>, or `}add an adapter file that somebody gave you.
    <//>`}
    ${adapters.length > 0 && !shown.length && html`<${Empty} title="Nothing found">No adapter has “${query}” in its name or labels.<//>`}
    ${may("upload") && html`<${Deleted} />`}`;
}

function Row({ adapter, place, count }) {
  const { name, version, versions, labels, created_at, aliases, rollouts = {}, digest } = adapter;
  const more = labels.length > LABELS ? `, … (${number(labels.length)} in total)` : "";
  const pointing = Object.entries(aliases).map(([alias, at]) => `${alias} = ${at}`);
  const kept = versions.length > 1 ? `version ${version} of ${versions.length}` : `version ${version}`;
  return html`<li title=${digest} aria-setsize=${count} aria-posinset=${place}>
    <div class="line">
      <a class="name-link" href=${linkTo(name)}>${name}</a>
      <${Marks} adapter=${adapter} trouble=${troubleOf(adapter)} />
      ${Object.entries(rollouts).map(([alias, rollout]) => html`<${Badge} key=${alias} kind="busy">${alias}: ${trialOf(rollout)}<//>`)}
    </div>
    <div class="line quiet labels">${labels.slice(0, LABELS).map((label) => titleOf(adapter, label)).join(", ")}${more}</div>
    <div class="line quiet facts-line">${[kept, ...pointing].join(", ")}, <${When} at=${created_at} /></div>
  </li>`;
}

export const Marks = ({ adapter: { draft, tier }, trouble }) => html`
  ${draft && html`<${Badge} kind="unsure" title="A quick first solution; the trained version replaces it">first draft<//> `}
  ${trouble ? html`<${Badge} kind="wrong" title=${trouble[1]}>${trouble[0]}<//>` : html`<${Badge} title="Kept ${tierWords(tier)}">${tier}<//>`}`;
