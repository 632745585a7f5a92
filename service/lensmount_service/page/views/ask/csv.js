/** The answers as a CSV file: one row for each image and adapter, for a spreadsheet or a script. */

const COLUMNS = ["image", "adapter", "version", "digest", "label", "title", "score", "decision", "set", "error"];

/** `rows` are {item, answers}; `title(answer)` is how the label of an answer is shown. */
export function csvOf(rows, title) {
  const lines = rows.flatMap(({ item, answers }) => {
    if (item.problem) return [[item.name, "", "", "", "", "", "", "", "", item.problem.code]];
    return answers.filter(Boolean).map((answer) => lineOf(item, answer, title));
  });
  return [COLUMNS, ...lines].map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}

function lineOf(item, { adapter, predictions, trust, error }, title) {
  const [best] = predictions;
  const told = [best?.label, best && title(adapter.name, best.label), best?.score, trust?.decision, trust?.set?.join("; "), error?.code];
  return [item.name, adapter.name, adapter.version, adapter.digest, ...told];
}

/** A text that begins like a formula gets an apostrophe, as in the files of `lensmount predict`. */
function cell(value) {
  const text = typeof value === "number" ? `${value}` : `${value ?? ""}`.replace(/^(?='*[=+\-@\t\r])/, "'");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

