/** Small components that every view uses. */

import { html, useEffect, useState } from "./html.js";
import { asProblem } from "./api.js";

const integer = new Intl.NumberFormat("en");
const percentage = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });

export const number = (value) => integer.format(value);
export const percent = (value) => percentage.format(value);
export const plural = (count, noun) => `${integer.format(count)} ${noun}${count === 1 ? "" : "s"}`;

/** A problem in words: title, detail, code. `again` adds a button if the same request may succeed later. */
export function ProblemBox({ problem, again }) {
  const code = [problem.code, problem.requestId && `request ${problem.requestId}`].filter(Boolean).join(", ");
  return html`<div class="problem" role="alert">
    <b>${problem.status ? `${problem.title} (${problem.status})` : problem.title}</b>
    <p>${problem.detail}</p>
    <code>${code}</code>
    ${again && problem.retryable && html`<button type="button" onClick=${again}>Try again</button>`}
  </div>`;
}

/** What is shown while a request runs. */
export const Waiting = ({ children = "Loading" }) => html`<p class="waiting quiet" role="status">${children} …</p>`;

/** What is shown where there is nothing yet: what it is and what to do. */
export const Empty = ({ title, children }) => html`<div class="empty"><h3>${title}</h3><p>${children}</p></div>`;

export const Badge = ({ kind = "", title, children }) => html`<span class="badge ${kind}" title=${title}>${children}</span>`;

/** Our own bar, because <meter> cannot be styled the same in all browsers. */
export const Meter = ({ label, value }) => html`<div class="meter" role="meter" aria-label=${label} aria-valuemin="0" aria-valuemax="1"
  aria-valuenow=${value} aria-valuetext=${percent(value)}><div style=${{ width: `${100 * value}%` }}></div></div>`;

/**
 * {value, problem, waiting, reload} of an async function, run again whenever `inputs` change.
 * The answer to an older run is dropped.
 */
export function useAsked(ask, inputs) {
  const [turn, setTurn] = useState(0);
  const [state, setState] = useState({ waiting: true });
  useEffect(() => {
    let current = true;
    setState((before) => ({ value: before.value, waiting: true }));
    ask().then(
      (value) => current && setState({ value, waiting: false }),
      (error) => current && setState({ problem: asProblem(error), waiting: false }),
    );
    return () => {
      current = false;
    };
  }, [...inputs, turn]);
  return { ...state, reload: () => setTurn((before) => before + 1) };
}
