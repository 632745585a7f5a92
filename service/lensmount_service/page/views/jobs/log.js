/** The log of a job, line by line as it comes. */

import { html, useEffect, useRef, useState } from "../../lib/html.js";
import { Part } from "../../lib/controls.js";
import { save } from "../../lib/download.js";

/** An event of the stream as one line of the log; null for what only moves the progress bar. */
export function lineOf(kind, data) {
  if (kind === "log") return { at: data.at, level: data.level, text: data.message };
  if (kind === "epoch") {
    const figures = ["loss", "accuracy", "validation_loss", "validation_balanced_accuracy"].filter((name) => typeof data[name] === "number");
    return { text: `epoch ${data.epoch}: ${figures.map((name) => `${name.replaceAll("_", " ")} ${data[name].toFixed(4)}`).join(", ")}` };
  }
  if (kind !== "state") return null;
  const attempt = data.attempt ? `, attempt ${data.attempt}` : "";
  return { at: data.at, level: data.error ? "error" : "", text: `${data.state}${attempt}${data.error ? `: ${data.error.message}` : ""}` };
}

export default function Log({ lines, live }) {
  const [following, setFollowing] = useState(true);
  const box = useRef();
  useEffect(() => {
    if (following) box.current.scrollTop = box.current.scrollHeight;
  }, [lines, following]);
  const text = () => lines.map(({ at, level, text: words }) => [at, level && `${level}:`, words].filter(Boolean).join(" ")).join("\n");
  const side = html`${live && html`<label class="check"><input type="checkbox" checked=${following} onChange=${({ target }) => setFollowing(target.checked)} />Follow</label>`}
    <button type="button" disabled=${!lines.length} onClick=${() => save(new Blob([text()], { type: "text/plain" }), "log.txt")}>Save the log</button>`;
  return html`<${Part} title="Log" side=${side}>
    <ol class="log" ref=${box} tabindex="0" aria-label="Log of the job">
      ${lines.map(({ at, level, text: words }, index) => html`<li key=${index} class=${level === "error" || level === "warning" ? level : ""}>
        ${at && html`<span class="quiet">${at.slice(11, 19)}</span>`} ${level && level !== "info" ? `${level}: ` : ""}${words}</li>`)}
      ${!lines.length && html`<li class="quiet">Nothing yet.</li>`}
    </ol>
  <//>`;
}
