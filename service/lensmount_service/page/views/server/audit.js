/** Who did what, newest first. The server gives the log oldest first, so the page reads the chosen time to its end. */

import { html, useMemo, useState } from "../../lib/html.js";
import { get } from "../../lib/api.js";
import { Part, Table } from "../../lib/controls.js";
import { save } from "../../lib/download.js";
import { Empty, ProblemBox, Waiting, number, plural, useAsked } from "../../lib/parts.js";
import { When } from "../../lib/words.js";
import { deedOf, isRoutine } from "./deeds.js";

const HOUR = 3600;
const TIMES = { [HOUR]: "the last hour", [24 * HOUR]: "the last day", [7 * 24 * HOUR]: "the last 7 days", [30 * 24 * HOUR]: "the last 30 days" };
const MOST_PAGES = 50; // of 1,000 records
const AT_ONCE = 100;

async function read(seconds) {
  const since = Math.floor(Date.now() / 1000 - seconds);
  const records = [];
  let after = null;
  for (let page = 0; page < MOST_PAGES; page++) {
    const found = await get(`audit?${new URLSearchParams({ since, limit: 1000, ...(after && { after }) })}`);
    records.push(...found.records);
    after = found.next;
    if (!after) break;
  }
  return { records: records.reverse(), cut: Boolean(after) };
}

export default function Audit() {
  const [seconds, setSeconds] = useState(24 * HOUR);
  const [filter, setFilter] = useState("");
  const [refusals, setRefusals] = useState(false);
  const [routine, setRoutine] = useState(false);
  const [most, setMost] = useState(AT_ONCE);
  const { value, problem, waiting, reload } = useAsked(() => read(seconds), [seconds]);
  const found = useMemo(() => {
    const wanted = filter.trim().toLowerCase();
    return (value?.records ?? []).filter(
      (record) => (!refusals || record.status >= 400) && (routine || !isRoutine(record)) && [record.actor, record.tenant, record.action, deedOf(record.action), record.target, record.request_id].join(" ").toLowerCase().includes(wanted),
    );
  }, [value, filter, refusals, routine]);
  const several = useMemo(() => new Set(found.map(({ tenant }) => tenant).filter((tenant) => tenant !== "-")).size > 1, [found]);
  const columns = ["When", "Who", ...(several ? ["Group"] : []), "Did what", "To which", "Answer"];
  const rows = found.slice(0, most).map(({ time, actor, tenant, action, target, status, count }) => [
    html`<${When} at=${time} />`, actor, ...(several ? [tenant] : []), html`<span title=${action}>${deedOf(action)}</span>`, target ?? "", count > 1 ? `${answerOf(status)}, ${number(count)} times` : answerOf(status),
  ]);
  return html`<${Part} title="Who did what" side=${html`<button type="button" onClick=${reload}>Refresh</button>`}>
    <p class="quiet">Every change, and every request that was refused for its token. A record appears within a second.</p>
    <div class="tools">
      <label class="field">Find a person, an action or a name<input type="search" value=${filter} onInput=${({ target }) => setFilter(target.value)} /></label>
      <label class="field">Of<select value=${seconds} onChange=${({ target }) => setSeconds(Number(target.value))}>
        ${Object.entries(TIMES).map(([key, words]) => html`<option key=${key} value=${key}>${words}</option>`)}
      </select></label>
      <label class="check"><input type="checkbox" checked=${refusals} onChange=${({ target }) => setRefusals(target.checked)} />Only what failed</label>
      <label class="check"><input type="checkbox" checked=${routine} onChange=${({ target }) => setRoutine(target.checked)} />Also files of jobs</label>
      <button type="button" disabled=${!found.length} onClick=${() => save(new Blob([csv(found)], { type: "text/csv" }), "audit.csv")}>Save as CSV</button>
    </div>
    ${problem && html`<${ProblemBox} problem=${problem} again=${reload} />`}
    ${waiting && html`<${Waiting}>Reading the log<//>`}
    ${value && html`<p class="quiet" role="status">${plural(found.length, "record")}${value.cut ? `, only the oldest ${number(value.records.length)} of this time: choose a shorter one for the newest` : ""}</p>`}
    ${value && !found.length && html`<${Empty} title="Nothing found">Nobody did such a thing in this time.<//>`}
    ${rows.length > 0 && html`<${Table} text label="The audit log" columns=${columns} rows=${rows} />`}
    ${found.length > most && html`<p><button type="button" onClick=${() => setMost(most + 10 * AT_ONCE)}>Show older records</button></p>`}
  <//>`;
}

const answerOf = (status) => (status < 400 ? "done" : status === 401 ? "refused: no valid token" : status === 403 ? "refused: not allowed" : `failed (${status})`);

/** RFC 4180. A text that a spreadsheet would take for a formula gets a quote in front of it. */
function csv(records) {
  const fields = ["time", "actor", "tenant", "action", "target", "digest", "request_id", "status", "count"];
  const cell = (value) => `"${String(value ?? "").replace(/^[=+\-@\t\r]/, "'$&").replaceAll('"', '""')}"`;
  return [fields, ...records.map((record) => fields.map((field) => record[field]))].map((row) => row.map(cell).join(",")).join("\r\n");
}
