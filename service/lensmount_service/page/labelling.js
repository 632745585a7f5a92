/** Labelling with the keyboard: one image of a pool at a time, digits give its label, and the next image follows. */

import { asProblem, picture, send } from "./api.js";
import { element, problemBox } from "./element.js";

const BATCH = 10; // images that are reserved at a time
const POLL_MS = 1000;
const KEYS = 9; // labels that have a digit

/** Fills the form's list of adapters, and labels in `place` once the form is sent. */
export class Labelling {
  constructor(form, place) {
    this.form = form;
    this.place = place;
    this.adapters = [];
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.start(new FormData(form));
    });
    place.addEventListener("keydown", (event) => this.key(event));
  }

  /** `adapters` are those of GET /adapters; their labels are offered. */
  show(adapters) {
    this.adapters = adapters.filter(({ status }) => status === "ready");
    const select = this.form.elements.adapter;
    const before = select.value;
    select.replaceChildren(...this.adapters.map(({ name }) => element("option", { textContent: name })));
    if (this.adapters.some(({ name }) => name === before)) select.value = before;
  }

  async start(chosen) {
    this.name = chosen.get("dataset").trim();
    this.who = chosen.get("who").trim();
    this.adapter = chosen.get("adapter");
    this.labels = this.adapters.find(({ name }) => name === this.adapter).labels;
    this.seen = []; // {digest, label}, in the order in which they were shown
    this.last = []; // positions of the images in the order in which they got a label
    this.at = -1;
    this.place.replaceChildren();
    await this.more();
  }

  /** Reserve the next images and show the first of them. */
  async more() {
    const query = new URLSearchParams({ adapter: this.adapter, who: this.who, n: BATCH });
    const path = `datasets/${encodeURIComponent(this.name)}/next?${query}`;
    try {
      let answer = await send("POST", path);
      while (answer.state === "scoring") {
        this.say(`The adapter looks at the images: ${answer.done} of ${answer.total} …`);
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
        answer = await send("POST", path);
      }
      const known = new Set(this.seen.map(({ digest }) => digest));
      const added = answer.items.filter(({ digest }) => !known.has(digest));
      if (!added.length) {
        this.say(`No image is left to label. ${this.counted()}`);
        return;
      }
      this.seen.push(...added.map(({ digest }) => ({ digest, label: null })));
      this.go(this.seen.length - added.length);
    } catch (error) {
      this.place.replaceChildren(problemBox(asProblem(error)));
    }
  }

  async give(label) {
    const image = this.seen[this.at];
    if (this.busy || !image) return;
    this.busy = true;
    try {
      const path = `datasets/${encodeURIComponent(this.name)}/labels`;
      await send("POST", path, { who: this.who, labels: { [image.digest]: label } });
      image.label = label;
      this.last = [...this.last.filter((position) => position !== this.at), this.at];
      await this.forward();
    } catch (error) {
      this.place.append(problemBox(asProblem(error)));
    } finally {
      this.busy = false;
    }
  }

  async forward() {
    const next = this.seen.findIndex(({ label }, position) => position > this.at && label === null);
    if (next >= 0) this.go(next);
    else await this.more();
  }

  /** Back to the image that got the latest label: the next label replaces it. */
  undo() {
    if (this.last.length) this.go(this.last.pop());
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.seen?.length) return;
    const moves = { ArrowLeft: -1, ArrowRight: 1 };
    if (event.key in moves) this.go(this.at + moves[event.key]);
    else if (event.key.toLowerCase() === "u") this.undo();
    else if (/^[1-9]$/.test(event.key) && event.key <= this.labels.length) this.give(this.labels[event.key - 1]);
    else return;
    event.preventDefault();
  }

  go(position) {
    if (position < 0 || position >= this.seen.length) return;
    this.at = position;
    const { digest, label } = this.seen[position];
    const title = `Image ${position + 1} of ${this.seen.length}`;
    const image = element("img", { alt: title });
    this.load(image, digest);
    const buttons = this.labels.map((name, number) => {
      const key = number < KEYS ? String(number + 1) : "";
      const button = element("button", { type: "button", ariaPressed: String(name === label) }, [
        key ? element("kbd", { textContent: key, ariaHidden: "true" }) : "",
        ` ${name}`,
      ]);
      if (key) button.setAttribute("aria-keyshortcuts", key);
      button.addEventListener("click", () => this.give(name));
      return button;
    });
    const move = (textContent, key, to) => {
      const button = element("button", { type: "button", textContent });
      button.setAttribute("aria-keyshortcuts", key);
      button.addEventListener("click", to);
      return button;
    };
    const given = label === null ? "without a label" : `labelled ${label}`;
    const card = element("div", { className: "labelled", tabIndex: 0, role: "group" }, [
      element("p", { className: "quiet", role: "status", textContent: `${title}, ${given}. ${this.counted()}` }),
      image,
      element("div", { className: "choices", role: "group", ariaLabel: "Labels" }, buttons),
      element("div", { className: "choices", role: "group", ariaLabel: "Move" }, [
        move("Previous", "ArrowLeft", () => this.go(this.at - 1)),
        move("Next", "ArrowRight", () => this.go(this.at + 1)),
        move("Undo", "u", () => this.undo()),
      ]),
      element("p", {
        className: "quiet",
        textContent: "Keys: 1 to 9 give a label, ← and → move, U goes back to the image labelled last. Its next label counts.",
      }),
    ]);
    card.ariaLabel = `${title} of ${this.name}`;
    this.place.replaceChildren(card);
    card.focus();
  }

  async load(image, digest) {
    try {
      const path = `datasets/${encodeURIComponent(this.name)}/unlabelled/${encodeURIComponent(digest)}`;
      image.src = URL.createObjectURL(await picture(path));
      image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
    } catch {
      image.alt = "This image cannot be shown";
    }
  }

  counted() {
    const count = this.seen.filter(({ label }) => label !== null).length;
    return `You labelled ${count} ${count === 1 ? "image" : "images"}.`;
  }

  say(textContent) {
    this.place.replaceChildren(element("p", { role: "status", textContent }));
  }
}
