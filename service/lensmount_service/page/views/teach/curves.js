/** The curves of a training: what each epoch found, drawn as SVG. */

import { html } from "../../lib/html.js";
import { percent, plural } from "../../lib/parts.js";

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [320, 150, 44, 20, 8];

/** `history` has {epoch, loss, validation_loss, validation_balanced_accuracy} of each epoch. `epochs` is the whole length. */
export function Curves({ history, epochs }) {
  if (!history.length) return null;
  const last = history.at(-1);
  const far = Math.max(epochs ?? 0, history.length, 2);
  const most = Math.max(...history.flatMap(({ loss, validation_loss }) => [loss, validation_loss ?? 0]));
  return html`<div class="curves">
    <${Chart} title="Right on images kept aside" far=${far} top=${1} format=${(value) => `${Math.round(100 * value)} %`}
      lines=${[{ kind: "aside", name: "kept aside", values: history.map((each) => each.validation_balanced_accuracy) }]}
      words=${`After ${plural(last.epoch, "round")}, ${last.validation_balanced_accuracy == null ? "not measured" : percent(last.validation_balanced_accuracy)} right on images kept aside.`} />
    <${Chart} title="Error (loss), lower is better" far=${far} top=${most} format=${(value) => value.toFixed(1)}
      lines=${[
        { kind: "own", name: "training images", values: history.map(({ loss }) => loss) },
        { kind: "aside", name: "kept aside", values: history.map(({ validation_loss }) => validation_loss) },
      ]}
      words=${`The error went from ${history[0].loss.toFixed(2)} to ${last.loss.toFixed(2)} in ${plural(last.epoch, "round")}.`} />
  </div>`;
}

function Chart({ title, lines, far, top, format, words }) {
  const x = (index) => LEFT + ((WIDTH - LEFT - 6) * index) / (far - 1);
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - Math.min(1, value / (top || 1)));
  const points = (values) => values.flatMap((value, index) => (value == null ? [] : [`${x(index).toFixed(1)},${y(value).toFixed(1)}`]));
  return html`<figure>
    <figcaption>${title}</figcaption>
    <svg viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label=${words}>
      ${[0, top / 2, top].map(
        (value) => html`<line class="grid" x1=${LEFT} x2=${WIDTH - 6} y1=${y(value)} y2=${y(value)} />
          <text x=${LEFT - 6} y=${y(value) + 4} text-anchor="end">${format(value)}</text>`,
      )}
      <text x=${LEFT} y=${HEIGHT - 4}>round 1</text>
      <text x=${WIDTH - 6} y=${HEIGHT - 4} text-anchor="end">${far}</text>
      ${lines.map(({ kind, values }) => html`<polyline class=${kind} points=${points(values).join(" ")} />`)}
      ${lines.map(({ kind, values }) => {
        const at = points(values).at(-1)?.split(",");
        return at && html`<circle class=${kind} cx=${at[0]} cy=${at[1]} r="3" />`;
      })}
    </svg>
    ${lines.length > 1 && html`<p class="key quiet">${lines.map(({ kind, name }) => html`<span class=${kind}>${name}</span>`)}</p>`}
  </figure>`;
}
