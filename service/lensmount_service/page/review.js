/** The review of one dataset: its doubtful labels with thumbnails, and buttons that relabel or exclude each image. */

import { asProblem, get, picture, send } from "./api.js";
import { element, problemBox } from "./element.js";

const POLL_MS = 1000;
const SHOWN = 60; // images of each kind; the API has up to 200

/** A <details> that starts the review of `dataset` when it is opened. `changed` is called after a new version is made. */
export function reviewOf(dataset, changed) {
  const body = element("div", { className: "review" });
  const details = element("details", {}, [element("summary", { textContent: "Review the labels" }), body]);
  let started = false;
  details.addEventListener("toggle", () => {
    if (!details.open || started) return;
    started = true;
    follow(dataset, details, body, changed).catch((error) => {
      started = false; // closing and opening asks again
      body.replaceChildren(problemBox(asProblem(error)));
    });
  });
  return details;
}

async function follow(dataset, details, body, changed) {
  const path = `datasets/${encodeURIComponent(dataset.name)}/review?version=${dataset.version}`;
  let answer = await send("POST", path);
  while (["waiting", "running", "none"].includes(answer.state)) {
    const done = answer.total ? `: ${answer.phase}, ${answer.done} of ${answer.total} images` : "";
    body.replaceChildren(element("p", { className: "quiet", textContent: `The server looks at the images${done} …` }));
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    if (!details.isConnected) return;
    answer = await get(path);
  }
  if (answer.state === "failed") {
    body.replaceChildren(element("p", { className: "problem", textContent: answer.error }));
    return;
  }
  show(dataset, answer.review, body, changed);
}

function show(dataset, review, body, changed) {
  const changes = new Map(); // path to the new label, or null to exclude the image
  const save = element("button", { type: "button", disabled: true, textContent: "Save the changes" });
  const choose = () => {
    save.disabled = !changes.size;
    save.textContent = changes.size ? `Save ${changes.size} changes as a new version` : "Save the changes";
  };
  save.addEventListener("click", async () => {
    const relabel = Object.fromEntries([...changes].filter(([, label]) => label !== null));
    const exclude = [...changes].filter(([, label]) => label === null).map(([path]) => path);
    save.disabled = true;
    try {
      const path = `datasets/${encodeURIComponent(dataset.name)}/items?version=${dataset.version}`;
      await send("PATCH", path, { relabel, exclude });
      changed();
    } catch (error) {
      save.disabled = false;
      save.after(problemBox(asProblem(error)));
    }
  });
  const card = (path, text, suggested) => item(dataset, path, text, suggested, changes, choose);
  const labels = review.labels.slice(0, SHOWN).map((doubt) =>
    card(doubt.path, `${doubt.label} (${doubt.quality.toFixed(2)}), likelier ${doubt.suggested}`, doubt.suggested),
  );
  const outliers = review.outliers.slice(0, SHOWN).map(({ path, label }) => card(path, label));
  const pairs = review.look_alikes.slice(0, SHOWN).flatMap(({ paths, labels }) =>
    paths.map((path, at) => card(path, `${labels[at]}, alike: ${paths[1 - at]}`)),
  );
  body.replaceChildren(
    element("ul", {}, review.notes.map((textContent) => element("li", { textContent }))),
    ...section(`Doubtful labels: ${review.flagged} are likely wrong`, labels),
    ...section(`Images unlike all others: ${review.outlier_count}`, outliers),
    ...section(`Pairs that are alike: ${review.look_alike_count}`, pairs),
    save,
  );
  if (!labels.length && !outliers.length && !pairs.length) {
    body.replaceChildren(element("p", { textContent: `Nothing is doubtful in ${review.images} images.` }));
  }
}

const section = (textContent, items) =>
  items.length ? [element("h4", { textContent }), element("ol", { className: "doubts" }, items)] : [];

function item(dataset, path, text, suggested, changes, choose) {
  const button = (textContent, label) => {
    const made = element("button", { type: "button", textContent, ariaPressed: "false" });
    made.addEventListener("click", () => {
      const chosen = changes.has(path) && changes.get(path) === label;
      if (chosen) changes.delete(path);
      else changes.set(path, label);
      for (const other of made.parentElement.querySelectorAll("button")) other.ariaPressed = "false";
      made.ariaPressed = String(!chosen);
      choose();
    });
    return made;
  };
  const image = element("img", { alt: path, width: 96, height: 96 });
  const query = new URLSearchParams({ path, version: dataset.version, side: 192 });
  whenSeen(image, async () => {
    try {
      image.src = URL.createObjectURL(await picture(`datasets/${encodeURIComponent(dataset.name)}/items/image?${query}`));
    } catch {
      image.alt = `${path} cannot be shown`;
    }
  });
  image.addEventListener("load", () => URL.revokeObjectURL(image.src));
  const buttons = suggested === undefined ? [] : [button(`Relabel as ${suggested}`, suggested)];
  return element("li", {}, [
    image,
    element("p", { className: "quiet", title: path, textContent: path }),
    element("p", { textContent: text }),
    ...buttons,
    button("Exclude", null),
  ]);
}

/** Call `load` when the element comes near the window, so that a long list does not ask for all its images at once. */
function whenSeen(target, load) {
  new IntersectionObserver(([entry], observer) => {
    if (!entry.isIntersecting) return;
    observer.disconnect();
    load();
  }, { rootMargin: "200px" }).observe(target);
}
