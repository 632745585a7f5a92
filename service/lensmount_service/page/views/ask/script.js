/** The same question for a script: as a curl command and as Python, to be copied. */

import { html, useRef, useState } from "../../lib/html.js";
import { token } from "../../lib/api.js";
import { referenceOf } from "./picks.js";

/** `name` is the file in the example: the first image. */
export function Script({ picks, name }) {
  const references = picks.map(referenceOf);
  const question = { server: new URL(".", location.href.split("#")[0]).href.replace(/\/$/, ""), references, name: name.split("/").at(-1), secret: Boolean(token.get()) };
  return html`<details class="script panel">
    <summary>Ask from a script</summary>
    ${question.secret && html`<p class="quiet">The token is not shown here. Put it into the environment variable LENSMOUNT_TOKEN first.</p>`}
    <${Code} title="curl" text=${curl(question)} />
    <${Code} title="Python" text=${python(question)} />
  </details>`;
}

function Code({ title, text }) {
  const code = useRef();
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setCopied(true);
    } catch {
      getSelection().selectAllChildren(code.current); // without https:// the browser copies only what is selected
      setCopied(document.execCommand("copy"));
    }
  };
  return html`<div class="code">
    <div class="bar"><h3>${title}</h3><span class="quiet" role="status">${copied ? "Copied" : ""}</span>
      <button type="button" class="plain" aria-label=${`Copy the ${title} example`} onClick=${copy}>Copy</button></div>
    <pre tabindex="0" aria-label=${`${title} example`} ref=${code}>${text}</pre>
  </div>`;
}

/** Quoted for a shell: nothing within single quotes has a meaning but the quote itself. */
const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** Quoted for Python, which reads the escapes of JSON; a file name may hold half a surrogate pair, which JSON escapes. */
const quoted = (text) => JSON.stringify(text);

export function curl({ server, references, name, secret }) {
  const header = secret ? '-H "Authorization: Bearer $LENSMOUNT_TOKEN" ' : "";
  const path = `predict?adapter=${references.map(encodeURIComponent).join(",")}`;
  return `curl ${header}--data-binary ${shell(`@${name}`)} ${shell(`${server}/${path}`)}`;
}

export function python({ server, references, name, secret }) {
  const one = references.length === 1;
  const asked = one ? quoted(references[0]) : `[${references.map(quoted).join(", ")}]`;
  const note = secret ? "  # the token comes from LENSMOUNT_TOKEN" : "";
  const plain = secret && /^http:\/\/(?!localhost\b|127\.|\[::1\])/.test(server); // the client asks before it sends a token in clear text
  return [
    "from lensmount_client import Client",
    "",
    `with Client(${quoted(server)}${plain ? ", insecure=True" : ""}) as client:${note}`,
    ...(one ? [`    answer = client.predict(${quoted(name)}, adapter=${asked})`, "    print(answer.top.label, answer.top.score)"] : [
      `    for answer in client.predict(${quoted(name)}, adapter=${asked}):`,
      "        print(answer.adapter.name, answer.top.label, answer.top.score)",
    ]),
  ].join("\n");
}
