/** The task that the user is teaching: its classes, their images, and how far they are. A reload keeps it. */

import { useEffect, useState } from "../../lib/html.js";
import { Kept } from "../../lib/kept.js";
import { asName, place } from "./placing.js";
import { read } from "./reading.js";

const AT_ONCE = 4; // files that are read at the same time
const DRAWN_MS = 100;
const NEW = { name: "", named: false, options: {}, run: null };

class Task {
  constructor() {
    this.kept = new Kept("teach", ["images", "task"]);
    this.listeners = new Set();
    this.clear();
  }

  clear() {
    this.state = { ...NEW, classes: [1, 2].map(newClass), images: [], refused: [], again: 0, reading: null, removed: null };
  }

  /** Read what the browser kept for this user; what another one left there is removed. */
  async open(owner) {
    if (this.owner === owner) return;
    this.owner = owner;
    const [[record], images] = await Promise.all([this.kept.all("task"), this.kept.all("images")]);
    this.clear();
    if (record && record.owner !== owner) await this.forget();
    else if (record) this.state = { ...this.state, ...record.kept, images: images.sort((a, b) => a.order - b.order), run: going(record.kept.run) };
    this.tell();
  }

  change(fields) {
    this.state = { ...this.state, ...fields };
    const { name, named, options, run, classes } = this.state;
    this.kept.put("task", { id: "task", owner: this.owner, kept: { name, named, options, run, classes } });
    this.tell();
  }

  tell() {
    this.listeners.forEach((listener) => listener(this.state));
  }

  /** Like `change`, for what comes image by image: it is drawn once for many, and kept with the next change. */
  note(fields) {
    this.state = { ...this.state, ...fields };
    this.soon ??= setTimeout(() => {
      this.soon = null;
      this.tell();
    }, DRAWN_MS);
  }

  /** Remove everything from the page and from what the browser keeps. The server keeps what it was sent. */
  async forget() {
    this.clear();
    await Promise.all([this.kept.clear("images"), this.kept.clear("task")]);
    this.tell();
  }

  rename = (id, name) => this.change({ classes: this.state.classes.map((each) => (each.id === id ? { ...each, name, given: true } : each)) });

  addClass = () => this.change({ removed: null, classes: [...this.state.classes, newClass(this.freeNumber())] });

  removeClass(id) {
    const { classes, images } = this.state;
    this.remove(images.filter((image) => image.classId === id), classes.filter((each) => each.id !== id));
  }

  removeImages(ids) {
    this.remove(this.state.images.filter(({ id }) => ids.includes(id)), this.state.classes);
  }

  /** Takes images out, and leaves `classes`. `undo` takes it back until something else is removed or added. */
  remove(gone, classes) {
    const { images, classes: before } = this.state;
    gone.forEach(({ id }) => this.kept.remove("images", id));
    const left = images.filter((image) => !gone.includes(image));
    this.change({ classes, images: left, removed: { classes: before, images: gone } });
  }

  undo() {
    const { removed, images } = this.state;
    removed.images.forEach((image) => this.kept.put("images", image));
    const all = [...images, ...removed.images].sort((a, b) => a.order - b.order);
    this.change({ classes: removed.classes, images: all, removed: null });
  }

  /** Add the files, to the class `classId` or to the classes that their folders name. `limits` is GET /limits. */
  async add(found, limits, classId = null) {
    if (!found.length) return;
    const { name, placed } = classId ? { name: null, placed: found.map((each) => ({ ...each, label: null })) } : place(found);
    this.change({ refused: [], again: 0, removed: null, reading: { done: 0, total: found.length } });
    if (name && !this.state.named) this.change({ name: asName(name) });
    const now = Date.now();
    const all = placed.map((each, index) => ({ ...each, order: now + index / 1e6, classId: classId ?? this.classOf(each.label) }));
    let next = 0;
    const turn = async () => {
      while (next < all.length) {
        const each = all[next++];
        this.take({ ...(await read(each, limits)), order: each.order }, each.classId);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, turn));
    this.change({ reading: null, images: this.state.images.toSorted((a, b) => a.order - b.order) });
  }

  take(image, classId) {
    const { images, refused, again, reading } = this.state;
    const progress = { reading: reading && { ...reading, done: reading.done + 1 } };
    if (image.refused) this.note({ ...progress, refused: [...refused, image] });
    else if (images.some((other) => other.digest === image.digest && other.classId === classId)) {
      this.note({ ...progress, again: again + 1 });
    } else {
      const made = { ...image, id: `${classId} ${image.digest}`, classId };
      this.kept.put("images", made);
      this.note({ ...progress, images: [...images, made] });
    }
  }

  /** The id of the class with this name. It may be made, from one that has neither a name of its own nor images. */
  classOf(label) {
    const { classes, images } = this.state;
    const known = label && classes.find(({ name }) => name.toLowerCase() === label.toLowerCase());
    if (known) return known.id;
    const empty = classes.find(({ id, given }) => !given && !images.some((image) => image.classId === id));
    const made = empty ?? newClass(this.freeNumber());
    const named = label ? { ...made, name: label, given: true } : made;
    this.change({ classes: empty ? classes.map((each) => (each === empty ? named : each)) : [...classes, named] });
    return named.id;
  }

  freeNumber() {
    let number = this.state.classes.length + 1;
    while (this.state.classes.some(({ name }) => name === `Class ${number}`)) number += 1;
    return number;
  }
}

/** What a run is after a reload: one that was being sent when the page was closed has to be started again. */
const going = (run) => (["sending", "drafting", "submitting"].includes(run?.phase) ? null : run);

const newClass = (number) => ({ id: `${Date.now()}-${number}-${Math.random()}`, name: `Class ${number}`, given: false });

export const task = new Task();

/** The state of the task: {name, classes, images, refused, again, reading, options, run}; null until the browser gave it. */
export function useTask(owner) {
  const [state, setState] = useState(task.owner === owner ? task.state : null);
  useEffect(() => {
    task.listeners.add(setState);
    task.open(owner).then(() => setState(task.state));
    return () => task.listeners.delete(setState);
  }, [owner]);
  return state;
}
