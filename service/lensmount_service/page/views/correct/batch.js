/** The images that one person labels now: reserved a few at a time, shown in order, and labelled in any order. */

import { asProblem, send } from "../../lib/api.js";

const RESERVED = 10; // images at a time
const POLL_MS = 1000;
const BY_DOUBT = "strategy=margin"; // the server's advice for such a network

/** `changed()` is called after every change of `seen` ({digest, label}), `at`, `words` (instead of an image) and `problem`. */
export class Batch {
  constructor({ pool, adapter, who, reserved = () => {} }, changed) {
    Object.assign(this, { pool, adapter, who, reserved, changed });
    this.seen = [];
    this.last = []; // positions of the images in the order in which they got a label
    this.at = -1;
    this.words = "Looking for images …";
    this.problem = null;
  }

  get path() {
    return `datasets/${encodeURIComponent(this.pool)}`;
  }

  get count() {
    return this.seen.filter(({ label }) => label !== null).length;
  }

  say(words, problem = null) {
    Object.assign(this, { words, problem });
    this.changed();
  }

  /** The next images of the pool: the server chooses them by features, or by doubt alone where the network gives none. */
  async next(more = {}) {
    const path = `${this.path}/next?${new URLSearchParams({ adapter: this.adapter, who: this.who, n: RESERVED, ...more })}`;
    try {
      return await send("POST", path);
    } catch (error) {
      if (!more.strategy && error.status === 422 && error.detail.includes(BY_DOUBT)) return this.next({ strategy: "margin" });
      throw error;
    }
  }

  /** Reserve the next images and show the first of them. */
  async more() {
    try {
      let answer = await this.next();
      while (answer.state === "scoring" && !this.closed) {
        this.say(`The adapter looks at the images: ${answer.done} of ${answer.total} …`);
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
        answer = await this.next();
      }
      this.reserved();
      const known = new Set(this.seen.map(({ digest }) => digest));
      const added = answer.items.filter(({ digest }) => !known.has(digest));
      if (!added.length) return this.say("No image is left to label.");
      this.seen.push(...added.map(({ digest }) => ({ digest, label: null })));
      this.go(this.seen.length - added.length);
    } catch (error) {
      this.say("", asProblem(error));
    }
  }

  async give(label) {
    const image = this.seen[this.at];
    if (this.busy || !image) return;
    this.busy = true;
    try {
      await send("POST", `${this.path}/labels`, { who: this.who, labels: { [image.digest]: label } });
      image.label = label;
      this.last = [...this.last.filter((position) => position !== this.at), this.at];
      const next = this.seen.findIndex((other, position) => position > this.at && other.label === null);
      if (next >= 0) this.go(next);
      else await this.more();
    } catch (error) {
      this.say(this.words, asProblem(error));
    } finally {
      this.busy = false;
    }
  }

  /** Back to the image that got the latest label: the next label replaces it. */
  undo() {
    if (this.last.length) this.go(this.last.pop());
  }

  go(position) {
    if (position < 0 || position >= this.seen.length) return;
    this.at = position;
    this.say("");
  }
}
