/** The list of adapters: which exist, which can run on this server, and which are picked. */

import { element } from "./element.js";

const NONE = "There are no adapters yet. To upload one, run: lensmount adapters push FILE";

export class AdapterList {
  /** Fills the <ul> `list`; `filter` is the search field. Calls `changed()` when other adapters are picked. */
  constructor(list, filter, changed) {
    this.list = list;
    this.filter = filter;
    this.changed = changed;
    this.items = [];
    list.addEventListener("change", changed);
    filter.addEventListener("input", () => this.find());
  }

  /** The names of the picked adapters, in the order of the list. */
  get picked() {
    return this.items.filter(({ box }) => box.checked).map(({ name }) => name);
  }

  /** Show `adapters` (GET /adapters, own and public). Picked adapters stay picked, and a single adapter is picked at once. */
  show(adapters) {
    const before = this.picked;
    const ready = adapters.filter(({ status }) => status === "ready");
    const picked = new Set(before.length || ready.length !== 1 ? before : [ready[0].name]);
    this.items = adapters.map((adapter) => item(adapter, picked));
    this.list.replaceChildren(...this.items.map(({ row }) => row));
    if (!adapters.length) this.list.append(element("li", { className: "quiet", textContent: NONE }));
    this.filter.hidden = adapters.length <= 12;
    this.find();
    if (this.picked.join() !== before.join()) this.changed();
  }

  clear() {
    this.items = [];
    this.list.replaceChildren();
  }

  find() {
    const query = this.filter.hidden ? "" : this.filter.value.trim().toLowerCase();
    for (const { row, box, words } of this.items) row.hidden = !box.checked && !words.includes(query);
  }
}

function item(adapter, picked) {
  const ready = adapter.status === "ready";
  const box = element("input", {
    type: "checkbox",
    value: adapter.name,
    disabled: !ready,
    checked: ready && picked.has(adapter.name),
  });
  const needs = `needs ${adapter.backbone.name}`;
  const state = ready ? adapter.tier : adapter.status === "backbone_mismatch" ? needs : adapter.status;
  const many = adapter.labels.length > 8 ? `, … (${adapter.labels.length} in total)` : "";
  const row = element("li", {}, [
    element("label", { title: adapter.digest }, [
      box,
      element("span", { className: "name" }, [
        element("b", { textContent: adapter.name }),
        ` version ${adapter.version} `,
        element("span", { className: ready ? "badge" : "badge wrong", textContent: state }),
        ...Object.entries(adapter.rollouts ?? {}).flatMap(([alias, rollout]) => [" ", trial(alias, rollout)]),
      ]),
      element("span", { className: "quiet", textContent: adapter.labels.slice(0, 8).join(", ") + many }),
    ]),
  ]);
  return { name: adapter.name, row, box, words: [adapter.name, ...adapter.labels].join("\n").toLowerCase() };
}

/** An alias for which another version is tried. */
function trial(alias, { canary, shadow }) {
  const words = [canary && `canary ${canary.version} gets ${canary.percent} %`, shadow && `shadow ${shadow.version}`];
  return element("span", { className: "badge", textContent: `${alias}: ${words.filter(Boolean).join(", ")}` });
}
