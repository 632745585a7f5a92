/** Correct: people say what images really are, and adapters learn from it. */

import { html, useState } from "../lib/html.js";
import { get } from "../lib/api.js";
import { Empty, ProblemBox, useAsked, Waiting } from "../lib/parts.js";
import { address } from "../lib/route.js";
import { useSession } from "../lib/session.js";
import { Corrections, SUFFIX } from "./correct/corrections.js";
import { Labelling } from "./correct/labelling.js";
import { Pools, Start } from "./correct/start.js";
import { Training } from "./teach/training.js";

let typed = ""; // the name of the person, kept while the page is open

export default function Correct({ route }) {
  const { adapters, limits, who, reload: renew } = useSession();
  const [person, setPerson] = useState(() => typed || (who.actor === "loopback" ? "" : who.actor));
  const [chosen, setChosen] = useState(null);
  const pools = useAsked(async () => (await get("pools")).pools, []);
  const datasets = useAsked(async () => (await get("datasets")).datasets.map(({ name }) => name), []);
  const remember = (name) => setPerson((typed = name));
  const ready = adapters.filter(({ status }) => status === "ready");
  const job = route.query.get("job");
  const problem = pools.problem ?? datasets.problem;
  if (problem) return html`<h2>Correct</h2><${ProblemBox} problem=${problem} again=${() => (pools.reload(), datasets.reload())} />`;
  if (!pools.value || !datasets.value) return html`<h2>Correct</h2><${Waiting} />`;
  const feedback = pools.value.filter(({ name, labelled }) => name.endsWith(SUFFIX) && labelled);
  const started = ({ id }) => {
    datasets.reload(); // with the one that was made for the job
    location.assign(address("correct", [], { job: id }));
  };
  return html`<div class="correct">
    <h2>Correct</h2>
    <p class="lead">Say what images really are, and the adapter learns from it. A new version replaces the old one only if it is not worse.
      Doubtful labels of a dataset are in <a href=${address("datasets")}>its review</a>.</p>
    ${job && html`<section class="steps" aria-labelledby="retraining"><h3 id="retraining">Learning from the corrections</h3><${Training} key=${job} id=${job} ended=${renew} /></section>`}

    <section aria-labelledby="corrections-title">
      <h3 id="corrections-title">Corrected answers</h3>
      ${feedback.length
        ? html`<ul class="cards">${feedback.map(
            (pool) => html`<${Corrections} key=${pool.name} pool=${pool} person=${person} datasets=${datasets.value} started=${started}
              adapter=${ready.find(({ name }) => `${name.replace(/^public\//, "")}${SUFFIX}` === pool.name)} />`,
          )}</ul>`
        : html`<${Empty} title="No answer has been corrected yet">${limits.feedback
            ? html`When an answer is wrong, press “Wrong? Say what it is” below it in <a href=${address("ask")}>Ask</a>.`
            : html`This server keeps no images of answers. Ask the person who runs it to start it with <code>LENSMOUNT_FEEDBACK=on</code>.`}<//>`}
    </section>

    <section aria-labelledby="labelling-title">
      <h3 id="labelling-title">Label images</h3>
      <p class="quiet">Images without a label wait in a pool. You see those first from which the adapter learns most, and nobody else gets them for 15 minutes.</p>
      <${Pools} pools=${pools.value} />
      <${Start} pools=${pools.value} adapters=${ready} person=${person} setPerson=${remember} start=${(fields) => setChosen((before) => ({ ...fields, turn: (before?.turn ?? 0) + 1 }))} reload=${pools.reload} />
      ${chosen && html`<${Labelling} key=${chosen.turn} chosen=${chosen} adapter=${ready.find(({ name }) => name === chosen.adapter)} reserved=${pools.reload} />`}
    </section>
  </div>`;
}
