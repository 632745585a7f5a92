/** Many images as a table: sorted, filtered by what the answers are worth, and as a CSV file. Only seen rows are drawn. */

import { html, useMemo, useState } from "../../lib/html.js";
import { percent, plural } from "../../lib/parts.js";
import { useRows } from "../../lib/rows.js";
import { useSession } from "../../lib/session.js";
import { titleOf } from "../../lib/titles.js";
import { DECISIONS, decisionOf, trustWords } from "../../lib/trust.js";
import { differs } from "./compare.js";
import { save } from "../../lib/download.js";
import { csvOf } from "./csv.js";
import { images, urlOf } from "./images.js";
import { Open } from "./open.js";
import { referenceOf } from "./picks.js";

const ROW = 56; // pixels, as in ask.css
const order = new Intl.Collator("en", { numeric: true });

const decided = (word) => (row) => row.answers.some((answer) => decisionOf(answer?.trust) === word);

/** What the table can be narrowed to: a name, and whether an image with these answers is shown. */
const FILTERS = {
  all: ["All images", () => true],
  accept: [`Answers: ${DECISIONS.accept}`, decided("accept")],
  uncertain: [`Answers: ${DECISIONS.uncertain}`, decided("uncertain")],
  unfamiliar: ["Unlike the training images", decided("unfamiliar")],
  unmeasured: [`Answers: ${DECISIONS.unmeasured}`, decided("unmeasured")],
  differ: ["The versions differ", (row) => differs(row.answers)],
  failed: ["Errors", (row) => row.item.problem || row.answers.some((answer) => answer?.error)],
  waiting: ["Not answered yet", (row) => images.waits(row.item)],
};

export function Table({ picks, turn }) {
  const { adapters } = useSession();
  const [filter, setFilter] = useState("all");
  const [sort, setSort] = useState({ by: "added", up: true });
  const [open, setOpen] = useState(null);
  const title = (name, label) => titleOf(adapters.find((adapter) => adapter.name === name), label);
  const all = useMemo(() => images.items.map((item) => ({ item, answers: images.answersOf(item) })), [turn, picks]);
  const counts = Object.entries(FILTERS).map(([key, [words, fits]]) => ({ key, words, count: all.filter(fits).length }));
  const rows = useMemo(() => sorted(all.filter(FILTERS[filter][1]), sort, title), [all, filter, sort]);
  const { box, first, last } = useRows(rows.length, ROW);
  const at = rows.findIndex(({ item }) => item === open);
  return html`<div class="tabled">
    <div class="bar">
      <label>Show <select value=${filter} onChange=${(event) => setFilter(event.target.value)}>
        ${counts.filter(({ key, count }) => count || key === filter).map(({ key, words, count }) => html`<option key=${key} value=${key}>${words} (${count})</option>`)}
      </select></label>
      <button type="button" onClick=${() => save(new Blob([csvOf(rows, title)], { type: "text/csv;charset=utf-8" }), "answers.csv")}>Download as CSV</button>
    </div>
    <div class="image-table" ref=${box} tabindex="0" role="region" aria-label=${`Table of ${plural(rows.length, "image")}`}>
      <table aria-rowcount=${rows.length + 1}>
        <thead><tr aria-rowindex="1">
          <${Head} by="name" sort=${sort} setSort=${setSort}>Image<//>
          ${picks.map((pick, column) => html`<${Head} key=${referenceOf(pick)} by=${`label ${column}`} sort=${sort} setSort=${setSort}>${referenceOf(pick)}<//>
            <${Head} key=${`${referenceOf(pick)} score`} by=${`score ${column}`} sort=${sort} setSort=${setSort}>Score<//>
            <${Head} key=${`${referenceOf(pick)} trust`} by=${`trust ${column}`} sort=${sort} setSort=${setSort}>How sure<//>`)}
        </tr></thead>
        <tbody>
          ${first > 0 && html`<tr class="space" aria-hidden="true" style=${{ height: `${first * ROW}px` }}></tr>`}
          ${rows.slice(first, last).map(({ item, answers }, row) => html`<${Row} key=${item.key} item=${item} answers=${answers} index=${first + row + 2} title=${title} open=${setOpen} />`)}
          ${last < rows.length && html`<tr class="space" aria-hidden="true" style=${{ height: `${(rows.length - last) * ROW}px` }}></tr>`}
        </tbody>
      </table>
    </div>
    ${open && !open.gone && html`<${Open} item=${open} picks=${picks} turn=${turn} before=${rows[at - 1]?.item} after=${rows[at + 1]?.item} show=${setOpen} />`}
  </div>`;
}

function Head({ by, sort, setSort, children }) {
  const sorted = sort.by === by ? (sort.up ? "ascending" : "descending") : undefined;
  const turn = () => setSort({ by, up: sort.by === by ? !sort.up : !by.startsWith("score") }); // the best scores first
  return html`<th scope="col" aria-sort=${sorted}><button type="button" onClick=${turn}>${children}<span aria-hidden="true">${sorted ? (sort.up ? " ▲" : " ▼") : ""}</span></button></th>`;
}

function Row({ item, answers, index, title, open }) {
  return html`<tr aria-rowindex=${index} aria-busy=${images.waits(item)}>
    <th scope="row"><button type="button" class="opens" onClick=${() => open(item)}>
      <img src=${urlOf(item)} alt="" decoding="async" loading="lazy" width="40" height="40" /><span>${item.name}</span>
    </button></th>
    ${item.problem
      ? html`<td colspan=${3 * Math.max(1, answers.length)} class="failed">${item.problem.title}: ${item.problem.code}</td>`
      : answers.map((answer, column) => html`<${Cells} key=${column} answer=${answer} title=${title} />`)}
  </tr>`;
}

function Cells({ answer, title }) {
  if (!answer) return html`<td class="quiet" colspan="3">…</td>`;
  if (answer.error) return html`<td class="failed" colspan="3">${answer.error.code}</td>`;
  const { adapter, predictions: [best], trust } = answer;
  return html`<td class="label" title=${best.label}>${title(adapter.name, best.label)}</td>
    <td class="number">${percent(best.score)}</td>
    <td>${trust && html`<span class=${`trust ${decisionOf(trust)}`} title=${trustWords(trust, (label) => title(adapter.name, label))}>${SHORT[decisionOf(trust)] ?? trust.decision}</span>`}</td>`;
}

const SHORT = { ...DECISIONS, unfamiliar: "unlike training", unmeasured: "not measured" };

/** What a row is sorted by. Rows without an answer come last, and equal ones stay in the order in which they were added. */
function sorted(rows, { by, up }, title) {
  if (by === "added") return rows;
  const [kind, column] = by.split(" ");
  const value = ({ item, answers }) => {
    const answer = item.problem ? undefined : answers[Number(column)];
    if (kind === "name") return item.name;
    if (!answer?.predictions.length) return null;
    const [best] = answer.predictions;
    return { label: () => title(answer.adapter.name, best.label), score: () => best.score, trust: () => decisionOf(answer.trust) ?? "" }[kind]();
  };
  const valued = rows.map((row) => ({ row, value: value(row) }));
  const compare = (a, b) => (typeof a === "number" ? a - b : order.compare(a, b));
  valued.sort((a, b) => (a.value === null) - (b.value === null) || (a.value === null ? 0 : compare(a.value, b.value) * (up ? 1 : -1)));
  return valued.map(({ row }) => row);
}
