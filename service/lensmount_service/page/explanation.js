/** A button that asks why an adapter chose a label, and the answer below it: the image with what speaks for the label. */

import { asProblem, explain } from "./api.js";
import { element, problemBox } from "./element.js";

export function whyPart(file, adapter, label) {
  const answer = element("div", { ariaLive: "polite" });
  const ask = element("button", { type: "button", textContent: `Why ${label}?` });
  ask.addEventListener("click", async () => {
    ask.disabled = true;
    answer.replaceChildren(element("p", { className: "quiet", textContent: "Computing …" }));
    try {
      answer.replaceChildren(figure(await firstAnswer(file, adapter, label), label));
    } catch (error) {
      answer.replaceChildren(problemBox(asProblem(error)));
      ask.disabled = false;
    }
  });
  return element("div", { className: "why" }, [ask, answer]);
}

/** By the method that is as quick as a prediction, or else by the one that works with every backbone. */
async function firstAnswer(file, adapter, label) {
  try {
    return { method: "cam", ...(await explain(file, adapter, label, "cam")) };
  } catch (error) {
    if (error.code !== "explanation_not_possible") throw error;
    return { method: "occlusion", ...(await explain(file, adapter, label, "occlusion")) };
  }
}

function figure({ image, grid, method }, label) {
  const url = URL.createObjectURL(image);
  const shown = element("img", { src: url, alt: `The image with what speaks for ${label} in colour` });
  shown.addEventListener("load", () => URL.revokeObjectURL(url)); // the browser keeps the pixels that it shows
  const caption = `Red and yellow: what speaks for ${label}. Method ${method}, ${grid.join(" x ")} cells.`;
  return element("figure", {}, [shown, element("figcaption", { className: "quiet", textContent: caption })]);
}
