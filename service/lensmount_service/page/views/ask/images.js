/** The images that were added and their answers. They live outside of the components, so that other views keep them. */

import { useEffect, useReducer } from "../../lib/html.js";
import { asProblem, predictMany, Problem } from "../../lib/api.js";
import { Kept } from "../../lib/kept.js";
import { forgetTab, tabSet } from "../../lib/tab.js";
import { number } from "../../lib/parts.js";

const AT_ONCE = 3; // requests
const TOGETHER = 8; // images in one request; more bring nothing, because the server batches requests as well
const FEW = 12; // as few as this go alone: each answer is shown when it is there, and feedback can name it
const TOGETHER_BYTES = 16 << 20;
const TRIES = 6; // of a request that a busy server sends away
const KEPT_BYTES = 200 << 20; // of images that a reload brings back
const FRAME_MS = 60;

class Images {
  items = [];
  limits = {};
  picks = []; // [{reference, identity}]
  keptBytes = 0;
  notKept = 0; // images beyond KEPT_BYTES
  running = 0;
  listeners = new Set();
  kept = new Kept("ask", ["images"]);
  number = 0;

  /** Add `files`, each {file, path}. `stored` is the id of a file that IndexedDB has already. */
  add(files) {
    const added = files.map(({ file, path, stored }) => {
      const item = { key: ++this.number, file, name: path, answers: new Map(), problem: null, busy: false, alone: false, tries: 0 };
      item.stored = stored ?? this.keep(item);
      this.keptBytes += stored ? file.size : 0;
      return item;
    });
    this.items = [...this.items, ...added];
    this.changed();
    this.pump();
  }

  /** What a reload of this tab brings back. */
  async restore() {
    const set = tabSet();
    const old = Date.now() - 86_400_000;
    const records = await this.kept.all("images");
    for (const { id, at } of records.filter((record) => record.set !== set && record.at < old)) this.kept.remove("images", id); // of closed tabs
    this.add(records.filter((record) => record.set === set).map(({ id, file, name }) => ({ file, path: name, stored: id })));
  }

  keep({ key, file, name }) {
    if (this.keptBytes + file.size > KEPT_BYTES) {
      this.notKept += 1;
      return null;
    }
    this.keptBytes += file.size;
    const id = `${tabSet(true)} ${String(Date.now()).padStart(15, "0")} ${String(key).padStart(6, "0")}`; // in the order of adding
    this.kept.put("images", { id, set: tabSet(), at: Date.now(), file, name });
    return id;
  }

  remove(item) {
    if (item.stored) {
      this.kept.remove("images", item.stored);
      this.keptBytes -= item.file.size;
    } else this.notKept -= 1;
    if (item.url) URL.revokeObjectURL(item.url);
    item.gone = true;
    this.items = this.items.filter((other) => other !== item);
    this.changed();
  }

  clear() {
    for (const item of [...this.items]) this.remove(item);
  }

  /** Removes all images, also those of this tab that were not shown since a reload. */
  async forget() {
    this.clear();
    const set = tabSet();
    forgetTab();
    for (const record of await this.kept.all("images")) if (record.set === set) await this.kept.remove("images", record.id);
  }

  /** Ask these adapters from now on. Answers that are known stay, those that are missing are asked for. */
  ask(picks, limits, refused) {
    Object.assign(this, { picks, limits, refused });
    const known = new Set(picks.map(({ identity }) => identity));
    for (const item of this.items) {
      if (item.problem && item.askedFor !== identities(picks)) Object.assign(item, { problem: null, tries: 0 });
      for (const identity of item.answers.keys()) if (!known.has(identity)) item.answers.delete(identity);
    }
    this.changed();
    this.pump();
  }

  again(item) {
    Object.assign(item, { problem: null, tries: 0 });
    for (const [identity, answer] of item.answers) if (answer.error) item.answers.delete(identity);
    this.changed();
    this.pump();
  }

  /** The answers of an image in the order of the picks; undefined where one is missing. */
  answersOf = (item) => this.picks.map(({ identity }) => item.answers.get(identity));

  missing = (item) => (item.problem ? [] : this.picks.filter(({ identity }) => !item.answers.has(identity)));

  waits = (item) => item.busy || this.missing(item).length > 0;

  pump() {
    while (this.running < AT_ONCE) {
      const group = this.next();
      if (!group.length) return;
      this.running += 1;
      for (const item of group) item.busy = true;
      this.send(group).finally(() => {
        this.running -= 1;
        for (const item of group) item.busy = false;
        this.changed();
        this.pump();
      });
    }
  }

  /** The images of the next request: they lack answers of the same adapters. */
  next() {
    const waiting = this.items.filter((item) => !item.busy && this.missing(item).length);
    if (!waiting.length) return [];
    const [first] = waiting;
    if (waiting.length <= FEW || first.alone) return [first];
    const wanted = identities(this.missing(first));
    const group = [];
    let bytes = 0;
    for (const item of waiting) {
      if (group.length === Math.min(TOGETHER, this.limits.max_files ?? 1) || bytes + item.file.size > TOGETHER_BYTES) break;
      if (item.alone || identities(this.missing(item)) !== wanted) continue;
      group.push(item);
      bytes += item.file.size;
    }
    return group.length ? group : [first];
  }

  /** Never throws: a problem stays with its image. One bad image of several is found by sending each alone. */
  async send(group) {
    const picks = this.missing(group[0]);
    const asked = identities(this.picks);
    try {
      const { max_image_bytes: images, max_volume_bytes: volumes } = this.limits;
      if (group.length === 1 && group[0].file.size > Math.max(images, volumes)) throw tooLarge(group[0].file, Math.max(images, volumes));
      const results = await predictMany(group.map(({ file }) => file), picks.map(({ reference }) => reference));
      group.forEach((item, row) => {
        picks.forEach(({ identity }, column) => item.answers.set(identity, results[row * picks.length + column]));
      });
    } catch (error) {
      const problem = asProblem(error);
      for (const item of group) item.tries += 1;
      if (problem.status === 401) this.refused?.(problem);
      if (problem.retryAfter && group[0].tries < TRIES) await pause(problem.retryAfter);
      else if (group.length > 1) for (const item of group) item.alone = true;
      else Object.assign(group[0], { problem, askedFor: asked });
    }
  }

  changed() {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      for (const listener of this.listeners) listener();
    }, this.items.length > FEW ? FRAME_MS : 0);
  }
}

const identities = (picks) => picks.map(({ identity }) => identity).join("\n");
const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * Math.min(seconds, 60)));

function tooLarge(file, most) {
  return new Problem({
    title: "Content Too Large",
    detail: `found a file of ${number(file.size)} bytes, expected at most ${number(most)}. Fix: make the image smaller`,
    code: "body_too_large",
    status: 413,
  });
}

/** A URL of the image for <img>, made when it is first shown. */
export const urlOf = (item) => (item.url ??= URL.createObjectURL(item.file));

export const images = new Images();
let restored = null;

/** The images of this tab, drawn again whenever they change. */
export function useImages() {
  const [turn, draw] = useReducer((count) => count + 1, 0);
  useEffect(() => {
    images.listeners.add(draw);
    restored ??= images.restore();
    return () => images.listeners.delete(draw);
  }, []);
  return turn;
}
