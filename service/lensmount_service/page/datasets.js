/** The list of datasets: their classes, and what is doubtful about each. */

import { element } from "./element.js";
import { reviewOf } from "./review.js";

const integer = new Intl.NumberFormat("en");
const MOST_CLASSES = 8; // shown; a tooltip lists all

/** Fill the <ul> `list` with `datasets` (GET /datasets), and hide `section` if there are none. `changed` reloads them. */
export function showDatasets(section, list, datasets, changed) {
  section.hidden = !datasets.length;
  list.replaceChildren(...datasets.map((dataset) => item(dataset, changed)));
}

function item(dataset, changed) {
  const { name, version, digest, images, classes, report } = dataset;
  const { warnings = [], notes = [] } = report;
  const counts = Object.entries(classes).map(([label, count]) => `${label} ${integer.format(count)}`);
  const more = counts.length > MOST_CLASSES ? `, … (${counts.length} classes)` : "";
  const row = element("li", {}, [
    element("div", { className: "name", title: digest }, [
      element("b", { textContent: name }),
      ` version ${version} `,
      warnings.length ? element("span", { className: "badge wrong", textContent: plural(warnings.length, "warning") }) : "",
    ]),
    element("p", {
      className: "quiet",
      title: counts.join(", "),
      textContent: `${plural(images, "image")}: ${counts.slice(0, MOST_CLASSES).join(", ")}${more}`,
    }),
  ]);
  const lines = [...warnings.map(({ message }) => message), ...notes];
  if (lines.length) {
    row.append(
      element("details", {}, [
        element("summary", { textContent: warnings.length ? "What to check" : "What was left out" }),
        element("ul", {}, lines.map((textContent) => element("li", { textContent }))),
      ]),
    );
  }
  row.append(reviewOf(dataset, changed));
  return row;
}

const plural = (count, noun) => `${integer.format(count)} ${noun}${count === 1 ? "" : "s"}`;
