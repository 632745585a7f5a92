/** The report of a rollout in plain words: what is tried, how both versions do, and what speaks against the new one. */

import { html } from "../../lib/html.js";
import { Facts, Table } from "../../lib/controls.js";
import { number, percent, plural } from "../../lib/parts.js";
import { When, byWhom, share } from "../../lib/words.js";

const CLEAR = 0.01; // from this p-value down, a difference is called clear
const MOST_LABELS = 12; // of the table of labels and of the confusion table
const MOST_EVENTS = 8;
const RULES = {
  errors: "It fails too often",
  not_finite: "It gives scores that are not numbers",
  uncertain: "It is unsure too often",
  unfamiliar: "It calls too many images unfamiliar",
  p99: "It is too slow",
  worse_on_labels: "It is right less often",
};
const ENDS = { started: "Started", changed: "Changed", promoted: "Promoted", rolled_back: "Rolled back", ended: "Ended" };

export default function Report({ report }) {
  const { rollout, sides, compared, labelled, findings, events } = report;
  return html`<p>${whatRuns(report)}</p>
    ${!rollout.ready && html`<p class="quiet">This server still loads the new version. Until then version ${rollout.stable} answers.</p>`}
    <${Verdict} findings=${findings} report=${report} />
    <${Requests} sides=${sides} />
    ${compared && html`<${Compared} compared=${compared} rollout=${rollout} />`}
    ${labelled?.images > 0 && html`<${Labelled} labelled=${labelled} />`}
    <${History} events=${events} />`;
}

function whatRuns({ rollout: { stable, canary, shadow, started_at, started_by }, share: had, without_key: keyless }) {
  const by = { request: "requests", client: "callers" }[canary?.key] ?? `values of ${canary?.key.replace("header:", "")}`;
  return html`Version ${stable} is the present one${canary ? "" : " and answers all requests"}.
    ${canary && html` Version ${canary.version} answers ${share(canary.percent / 100)} of the ${by}${had === null ? "" : `; so far it had ${share(had)} of the requests`}.`}
    ${shadow && html` Version ${shadow.version} computes ${shadow.sample === 1 ? "all images" : `${share(shadow.sample)} of the images`} along, and nobody gets its answers.`}
    ${keyless > 0 && html` ${plural(keyless, "request")} had no such header, and version ${stable} answered them.`}
    ${" "}<span class="quiet">Started <${When} at=${started_at} />${byWhom(started_by)}.</span>`;
}

function Verdict({ findings, report: { sides, rollout, compared } }) {
  if (findings.length) {
    return html`<div class="problem"><b>Something speaks against it</b>
      <ul class="plain">${findings.map(({ rule, found, expected }) => html`<li key=${rule}>${RULES[rule] ?? rule}: found ${found}, expected ${expected}.</li>`)}</ul></div>`;
  }
  const seen = rollout.canary ? sides.canary?.requests ?? 0 : compared?.images ?? 0;
  if (!seen) return html`<p class="said">Nothing to compare yet: ask the alias about some images.</p>`;
  const few = rollout.canary && seen < rollout.rules.after;
  return html`<p class="said"><span><b>Nothing speaks against it so far.</b> ${few
    ? `The server looks at its rules from ${plural(rollout.rules.after, "request")} on; it has had ${number(seen)}.`
    : `It has had ${plural(seen, rollout.canary ? "request" : "image")}.`}</span></p>`;
}

function Requests({ sides }) {
  const shown = Object.entries(sides);
  if (!shown.length) return null;
  const decided = shown.some(([, side]) => Object.keys(side.decisions).length);
  const part = (side, word) => {
    const total = Object.values(side.decisions).reduce((sum, count) => sum + count, 0);
    return total ? share((side.decisions[word] ?? 0) / total) : "–";
  };
  const failed = (side) => Object.values(side.errors).reduce((sum, count) => sum + count, 0);
  const labels = [...new Set(shown.flatMap(([, side]) => Object.keys(side.labels)))].sort().slice(0, MOST_LABELS);
  const row = (name, value) => [name, ...shown.map(([, side]) => value(side))];
  const rows = [
    row("Requests", (side) => number(side.requests)),
    row("Images answered", (side) => number(side.images)),
    row("Failed", (side) => number(failed(side))),
    ...(decided ? [row("Sure", (side) => part(side, "accept")), row("Not sure", (side) => part(side, "uncertain")), row("Unfamiliar image", (side) => part(side, "unfamiliar"))] : []),
    row("Usual time", (side) => milliseconds(side.p50_ms)),
    row("Slowest hundredth", (side) => milliseconds(side.p99_ms)),
    ...labels.map((label) => row(`Answers “${label}”`, (side) => (side.images ? share((side.labels[label] ?? 0) / side.images) : "–"))),
  ];
  const errors = shown.flatMap(([word, side]) => Object.entries(side.errors).map(([code, count]) => `${word}: ${number(count)} ${code}`));
  return html`<h4>What each version did</h4>
    <${Table} label="What each version did" columns=${["Figure", ...shown.map(([word, { version }]) => `version ${version} (${word === "stable" ? "present" : word})`)]} rows=${rows} />
    ${errors.length > 0 && html`<p class="quiet">Failures by code: ${errors.join("; ")}.</p>`}`;
}

function Compared({ compared: { images, agreement, confusion, mean_change_of_scores: change, shed, failed }, rollout }) {
  const { labels, counts } = confusion;
  return html`<h4>The same images, both versions</h4>
    ${images ? html`<p>On ${plural(images, "image")}, version ${rollout.shadow.version} gives the same label as version ${rollout.stable} for <b>${share(agreement)}</b>. Scores differ by ${change.toFixed(3)} on average.</p>`
      : html`<p class="quiet">No image was computed with both yet.</p>`}
    ${shed > 0 && html`<p class="quiet">${plural(shed, "image")} left out because the server was busy.</p>`}
    ${failed > 0 && html`<p class="quiet">${plural(failed, "image")} could not be computed with the new version.</p>`}
    ${images > 0 && labels.length <= MOST_LABELS && html`<${Table} label="Which label became which" columns=${[`version ${rollout.stable} says ↓, version ${rollout.shadow.version} says →`, ...labels]}
      rows=${labels.map((label, at) => [label, ...counts[at].map(number)])} marked=${(row, column) => row === column - 1} />`}`;
}

function Labelled({ labelled }) {
  const { images, stable, candidate, only_stable_right: before, only_candidate_right: after } = labelled;
  const figures = ({ accuracy, ece, brier }) => [accuracy === null ? "–" : percent(accuracy), ece?.toFixed(3) ?? "–", brier?.toFixed(3) ?? "–"];
  return html`<h4>Images that people labelled</h4>
    <p>${plural(images, "image")}: ${difference(labelled)}</p>
    <${Table} label="Figures on labelled images" columns=${["Version", "Right", "Calibration error", "Brier score", "Right alone"]}
      rows=${[["present version", ...figures(stable), number(before)], ["new version", ...figures(candidate), number(after)]]} />
    <p class="quiet">Is it worse in its labels? ${worse(labelled.sequential_p_accuracy)} In its scores? ${worse(labelled.sequential_p_brier)}
      People correct what they saw to be wrong, so both versions are right more often in use than here.</p>`;
}

function difference({ mcnemar_p: p, only_stable_right: before, only_candidate_right: after }) {
  if (p === null) return "too few to compare.";
  if (before === 0 && after === 0) return "both versions are right about the same ones.";
  if (p > CLEAR) return `the difference may be chance (${chance(p)}).`;
  return `the ${after > before ? "new" : "present"} version is right more often (${chance(p)}, for one look).`;
}

const worse = (p) => (p === null ? "Not known." : `${p <= CLEAR ? "Yes, clearly" : "Not shown"} (${chance(p)}).`);
const chance = (p) => (p < 0.0001 ? "p < 0.0001" : `p = ${Number(p.toPrecision(2))}`);
const milliseconds = (value) => (value === null ? "–" : `${number(value >= 100 ? Math.round(value) : Number(value.toPrecision(3)))} ms`);

export const History = ({ events }) => html`<details><summary>What happened (${events.length})</summary>
  <${Facts} rows=${events.slice(0, MOST_EVENTS).map(({ at, actor, what, evidence }) => [
    html`<${When} at=${at} />`,
    `${ENDS[what] ?? what}${byWhom(actor ?? "the server")}${told(evidence)}`,
  ])} />
</details>`;

/** The evidence in one line; the rules are left out, because the verdict says which one was broken. */
function told(evidence) {
  const parts = Object.entries(evidence ?? {}).filter(([key, value]) => value !== null && key !== "rules").map(([key, value]) => `${key.replaceAll("_", " ")} ${flat(value)}`);
  return parts.length ? `: ${parts.join(", ")}` : "";
}

function flat(value) {
  if (Array.isArray(value)) return value.map(flat).join("; ");
  if (value && typeof value === "object") return Object.entries(value).map(([key, each]) => `${key.replaceAll("_", " ")} ${flat(each)}`).join(" ");
  return String(value);
}
