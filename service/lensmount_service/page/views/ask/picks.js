/** Which adapters are asked: names with an optional version or alias, in the address of the page and kept across views. */

import { address } from "../../lib/route.js";

let kept = null; // null until anything was picked

/** A pick `{name, at}`; `at` is "", "@2", "@sha256:…" or ":alias". */
export function parsePick(reference) {
  const [, name, at] = /^([^@:]+)(.*)$/.exec(reference) ?? [null, reference, ""];
  return { name, at };
}

export const referenceOf = ({ name, at }) => `${name}${at}`;

/** The picks to begin with: those of the address, those of before, or the newest adapter. */
export function firstPicks(query, adapters) {
  const asked = query.getAll("adapter").map(parsePick);
  if (asked.length) kept = asked;
  kept ??= preselected(adapters);
  return standing(kept, adapters);
}

/** The picks whose adapters are still there and ready. */
export const standing = (picks, adapters) =>
  picks.filter(({ name }) => adapters.some((adapter) => adapter.name === name && adapter.status === "ready"));

/** Keeps the picks, and shows them in the address so that a reload and a link have them too. */
export function keepPicks(picks) {
  kept = picks;
  const query = picks.map((pick) => ["adapter", referenceOf(pick)]);
  history.replaceState(history.state, "", address("ask", [], query));
}

export const forgetPicks = () => void (kept = null);

function preselected(adapters) {
  const ready = adapters.filter(({ status }) => status === "ready");
  const [first] = ready.toSorted((a, b) => b.created_at.localeCompare(a.created_at)); // such as one that was just taught
  return first ? [{ name: first.name, at: "" }] : [];
}

/** The digest that a pick stands for, as far as GET /adapters tells: answers are kept for as long as it stays. */
export function identityOf(pick, adapters) {
  const adapter = adapters.find(({ name }) => name === pick.name);
  const alias = pick.at.startsWith(":") ? pick.at.slice(1) : null;
  const target = alias && JSON.stringify([adapter?.aliases[alias], adapter?.rollouts?.[alias], adapter?.alias_trust?.[alias]]);
  return `${referenceOf(pick)} ${target ?? (pick.at || adapter?.digest)}`;
}
