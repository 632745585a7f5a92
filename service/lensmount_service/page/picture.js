/** One picture: what was sent, and what each adapter says of it. */

import { Problem, asProblem, predict } from "./api.js";
import { element, problemBox } from "./element.js";
import { colourOf, paint } from "./masks.js";

const FIRST = 5; // labels shown at once; the rest unfolds
const percent = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const whole = new Intl.NumberFormat("en");

export class Picture {
  /** `remove()` and `again()` are what its two buttons call. */
  constructor(file, { remove, again }) {
    this.file = file;
    this.again = again;
    this.url = URL.createObjectURL(file);
    this.layers = [];
    this.image = element("img", { src: this.url, alt: "", decoding: "async" });
    this.image.addEventListener("error", () => this.image.replaceWith(this.stand));
    this.stand = element("div", { className: "stand", textContent: "No preview of this format" });
    this.canvas = element("canvas", { hidden: true });
    this.canvas.setAttribute("role", "img");
    this.answers = element("div", { className: "answers" });
    this.card = element("li", { className: "card" }, [
      element("div", { className: "view" }, [this.image, this.canvas]),
      element("div", { className: "said" }, [
        element("div", { className: "bar" }, [
          element("h3", { textContent: file.name }),
          button("Remove", remove, `Remove ${file.name}`),
        ]),
        this.answers,
      ]),
    ]);
  }

  /** Ask what these adapters say; what was asked before is dropped. Never throws: `problem` is what went wrong. */
  async ask(adapters, maxBytes) {
    this.drop();
    const mine = (this.asking = new AbortController());
    this.card.ariaBusy = "true";
    try {
      if (this.file.size > maxBytes) throw tooLarge(this.file, maxBytes); // a server may close before it is all sent
      const results = adapters.length ? await predict(this.file, adapters, mine.signal) : [];
      if (mine === this.asking) this.show(results);
    } catch (error) {
      if (mine !== this.asking || error.name === "AbortError") return;
      this.failed(error);
    } finally {
      if (mine === this.asking) this.card.ariaBusy = "false";
    }
  }

  drop() {
    this.asking?.abort();
  }

  /** Give back what the picture holds of the browser. */
  close() {
    this.drop();
    this.card.remove();
    URL.revokeObjectURL(this.url);
  }

  get hasMasks() {
    return this.layers.length > 0;
  }

  show(results) {
    this.problem = null;
    this.layers = [];
    const sections = results.map((result) => this.section(result));
    if (!results.length) sections.push(element("p", { className: "quiet", textContent: "Pick an adapter above." }));
    this.answers.replaceChildren(...sections);
    this.repaint();
  }

  failed(error) {
    this.problem = asProblem(error);
    this.layers = [];
    const box = problemBox(this.problem);
    if (this.problem.retryable) box.append(button("Try again", this.again, `Try ${this.file.name} again`));
    this.answers.replaceChildren(box);
    this.repaint();
  }

  section(result) {
    const { adapter, timing_ms: timing, segmentation } = result;
    const rows = segmentation ? this.maskRows(segmentation) : scoreRows(result.predictions);
    const spent = `forward ${timing.forward.toFixed(1)} ms, in all ${timing.total.toFixed(1)} ms`;
    return element("section", { ariaLabel: `${adapter.name}, version ${adapter.version}` }, [
      element("h4", {}, [adapter.name, element("span", { className: "quiet", textContent: ` version ${adapter.version}` })]),
      ...rows,
      element("p", { className: "quiet" }, [
        element("code", { title: adapter.digest, textContent: adapter.digest.slice(0, "sha256:".length + 12) }),
        ` · ${spent}`,
      ]),
    ]);
  }

  /** A row for each label: its colour and whether it is shown, the share of the picture, area and count. */
  maskRows({ size, masks }) {
    return masks.map(({ label, counts, area, count }) => {
      const share = area / (size[0] * size[1]);
      const colour = colourOf(this.layers.length);
      const layer = { label, counts, size, colour, shown: true };
      this.layers.push(layer);
      const box = element("input", { type: "checkbox", checked: true });
      box.addEventListener("change", () => {
        layer.shown = box.checked;
        this.repaint();
      });
      const swatch = element("span", { className: "swatch" });
      swatch.style.backgroundColor = `rgb(${colour.join(" ")})`;
      const regions = `${whole.format(count)} ${count === 1 ? "region" : "regions"}`;
      return element("div", { className: "score" }, [
        element("label", {}, [box, swatch, label]),
        element("span", { className: "number", textContent: percent.format(share) }),
        meter(label, share),
        element("span", { className: "quiet", textContent: `${whole.format(area)} pixels in ${regions}` }),
      ]);
    });
  }

  repaint() {
    const shown = this.layers.filter((layer) => layer.shown);
    this.canvas.hidden = !shown.length;
    if (!shown.length) return;
    this.canvas.ariaLabel = `Masks of ${shown.map(({ label }) => label).join(", ")}`;
    paint(this.canvas, shown);
    this.stand.style.aspectRatio = `${shown[0].size[1]} / ${shown[0].size[0]}`; // there may be no picture below it
    this.stand.style.minHeight = 0;
  }
}

function scoreRows(predictions) {
  const rows = predictions.map(({ label, score }) =>
    element("div", { className: "score" }, [
      element("span", { textContent: label }),
      element("span", { className: "number", textContent: percent.format(score) }),
      meter(label, score),
    ]),
  );
  if (rows.length <= FIRST + 1) return rows;
  const more = element("summary", { textContent: `${rows.length - FIRST} more labels` });
  return [...rows.slice(0, FIRST), element("details", {}, [more, ...rows.slice(FIRST)])];
}

function button(text, clicked, ariaLabel) {
  const made = element("button", { type: "button", textContent: text, ariaLabel });
  made.addEventListener("click", clicked);
  return made;
}

/** A bar of our own: what browsers make of <meter> cannot be styled alike. */
function meter(label, value) {
  const bar = element("div");
  bar.style.width = `${100 * value}%`;
  const track = element("div", { className: "meter" }, [bar]);
  const aria = { role: "meter", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 1, "aria-valuenow": value };
  for (const [name, text] of Object.entries(aria)) track.setAttribute(name, text);
  track.setAttribute("aria-valuetext", percent.format(value));
  return track;
}

function tooLarge(file, maxBytes) {
  return new Problem({
    title: "Content Too Large",
    detail: `found a file of ${whole.format(file.size)} bytes, expected at most ${whole.format(maxBytes)}`,
    code: "body_too_large",
    status: 413,
  });
}
