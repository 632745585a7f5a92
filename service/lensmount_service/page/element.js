/** Elements with their properties and children. Strings become text nodes, never markup. */

export function element(tag, properties = {}, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** A problem as the server tells it: title, detail, code. */
export function problemBox(problem) {
  const code = [problem.code, problem.requestId && `request ${problem.requestId}`].filter(Boolean).join(", ");
  return element("div", { className: "problem" }, [
    element("b", { textContent: problem.status ? `${problem.title} (${problem.status})` : problem.title }),
    element("p", { textContent: problem.detail }),
    element("code", { textContent: code }),
  ]);
}
