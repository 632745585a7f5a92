/** Creates elements with properties and children. Strings become text nodes, never markup. */

export function element(tag, properties = {}, children = []) {
  const created = Object.assign(document.createElement(tag), properties);
  created.append(...children);
  return created;
}

/** A box that shows a problem: title, detail, code. */
export function problemBox(problem) {
  const code = [problem.code, problem.requestId && `request ${problem.requestId}`].filter(Boolean).join(", ");
  return element("div", { className: "problem" }, [
    element("b", { textContent: problem.status ? `${problem.title} (${problem.status})` : problem.title }),
    element("p", { textContent: problem.detail }),
    element("code", { textContent: code }),
  ]);
}
