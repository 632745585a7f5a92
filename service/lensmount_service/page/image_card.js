/** The card of one image: the image itself, and the result of each adapter. */

import { Problem, asProblem, predict } from "./api.js";
import { element, problemBox } from "./element.js";
import { whyPart } from "./explanation.js";
import { colourOf, paint } from "./masks.js";
import { trustBadge } from "./trust.js";

const FIRST = 5; // labels shown at once; the others unfold
const percent = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const integer = new Intl.NumberFormat("en");

export class ImageCard {
  /** Its two buttons call `remove()` and `again()`. */
  constructor(file, { remove, again }) {
    this.file = file;
    this.again = again;
    this.url = URL.createObjectURL(file);
    this.layers = [];
    this.image = element("img", { src: this.url, alt: "", decoding: "async" });
    this.image.addEventListener("error", () => this.image.replaceWith(this.noPreview));
    this.noPreview = element("div", { className: "no-preview", textContent: "No preview for this format" });
    this.canvas = element("canvas", { hidden: true });
    this.canvas.setAttribute("role", "img");
    this.results = element("div", { className: "results" });
    this.element = element("li", { className: "card" }, [
      element("div", { className: "view" }, [this.image, this.canvas]),
      element("div", { className: "details" }, [
        element("div", { className: "bar" }, [
          element("h3", { textContent: file.name }),
          button("Remove", remove, `Remove ${file.name}`),
        ]),
        this.results,
      ]),
    ]);
  }

  /** Predict with these adapters and drop the previous request. Never throws; sets `problem` if it fails. */
  async predict(adapters, maxBytes) {
    this.drop();
    const current = (this.pending = new AbortController());
    this.element.ariaBusy = "true";
    try {
      // Checked here, because a server may close the connection before the whole file is sent.
      if (this.file.size > maxBytes) throw tooLarge(this.file, maxBytes);
      const results = adapters.length ? await predict(this.file, adapters, current.signal) : [];
      if (current === this.pending) this.show(results);
    } catch (error) {
      if (current !== this.pending || error.name === "AbortError") return;
      this.failed(error);
    } finally {
      if (current === this.pending) this.element.ariaBusy = "false";
    }
  }

  drop() {
    this.pending?.abort();
  }

  /** Release what the card holds in the browser. */
  close() {
    this.drop();
    this.element.remove();
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
    this.results.replaceChildren(...sections);
    this.repaint();
  }

  failed(error) {
    this.problem = asProblem(error);
    this.layers = [];
    const box = problemBox(this.problem);
    if (this.problem.retryable) box.append(button("Try again", this.again, `Try ${this.file.name} again`));
    this.results.replaceChildren(box);
    this.repaint();
  }

  section(result) {
    const { adapter, timing_ms: timing, segmentation } = result;
    const rows = segmentation ? this.maskRows(segmentation) : scoreRows(result.predictions);
    const spent = `forward ${timing.forward.toFixed(1)} ms, total ${timing.total.toFixed(1)} ms`;
    return element("section", { ariaLabel: `${adapter.name}, version ${adapter.version}` }, [
      element("h4", {}, [adapter.name, element("span", { className: "quiet", textContent: ` version ${adapter.version}` })]),
      ...trustBadge(result.trust),
      ...rows,
      ...(segmentation || /-3d\d*$/.test(result.backbone.name) ? [] : [this.why(result)]),
      element("p", { className: "quiet" }, [
        element("code", { title: adapter.digest, textContent: adapter.digest.slice(0, "sha256:".length + 12) }),
        ` · ${spent}`,
      ]),
    ]);
  }

  /** Why the first label: for exactly the version that answered. */
  why({ adapter, predictions }) {
    return whyPart(this.file, `${adapter.name}@${adapter.digest}`, predictions[0].label);
  }

  /** One row per label: a checkbox that shows its mask, its colour, its share of the image, area and count. */
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
      const regions = `${integer.format(count)} ${count === 1 ? "region" : "regions"}`;
      return element("div", { className: "score" }, [
        element("label", {}, [box, swatch, label]),
        element("span", { className: "number", textContent: percent.format(share) }),
        meter(label, share),
        element("span", { className: "quiet", textContent: `${integer.format(area)} pixels in ${regions}` }),
      ]);
    });
  }

  repaint() {
    const shown = this.layers.filter((layer) => layer.shown);
    this.canvas.hidden = !shown.length;
    if (!shown.length) return;
    this.canvas.ariaLabel = `Masks of ${shown.map(({ label }) => label).join(", ")}`;
    paint(this.canvas, shown);
    this.noPreview.style.aspectRatio = `${shown[0].size[1]} / ${shown[0].size[0]}`; // there may be no image below the masks
    this.noPreview.style.minHeight = 0;
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
  const created = element("button", { type: "button", textContent: text, ariaLabel });
  created.addEventListener("click", clicked);
  return created;
}

/** Our own bar, because <meter> cannot be styled the same in all browsers. */
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
    detail: `found a file of ${integer.format(file.size)} bytes, expected at most ${integer.format(maxBytes)}`,
    code: "body_too_large",
    status: 413,
  });
}
