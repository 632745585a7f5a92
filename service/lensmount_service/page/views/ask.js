/** Ask: pick what to know, add images, and read an answer for each. */

import { html, useEffect, useState } from "../lib/html.js";
import { useSession } from "../lib/session.js";
import { AddImages } from "./ask/add.js";
import { Answers } from "./ask/answers.js";
import { images, useImages } from "./ask/images.js";
import { Picker } from "./ask/picker.js";
import { firstPicks, forgetPicks, identityOf, keepPicks, referenceOf, standing } from "./ask/picks.js";
import { Script } from "./ask/script.js";

export default function Ask({ route }) {
  const session = useSession();
  const turn = useImages();
  const [picks, setPicks] = useState(() => firstPicks(route.query, session.adapters));
  const asked = standing(picks, session.adapters);
  const identities = asked.map((pick) => identityOf(pick, session.adapters));
  useEffect(() => keepPicks(picks), [picks]);
  useEffect(() => {
    const wanted = asked.map((pick, at) => ({ ...pick, reference: referenceOf(pick), identity: identities[at] }));
    images.ask(wanted, session.limits, session.refused);
  }, [identities.join("\n"), session]);
  useEffect(() => {
    if (route.query.has("adapter")) setPicks(firstPicks(route.query, session.adapters)); // a link to this view
    else keepPicks(picks); // the link of the bar, which names none
  }, [route]);
  return html`<div class="ask">
    <${Picker} picks=${asked} pick=${setPicks} />
    <section class="asked" aria-label="Images">
      ${!images.items.length && html`<${Welcome} />`}
      <${AddImages} picks=${asked} />
      <${Answers} picks=${asked} turn=${turn} />
      ${asked.length > 0 && images.items.length > 0 && html`<${Script} picks=${asked} name=${images.items[0].name} />`}
    </section>
  </div>`;
}

/** Drops what this view keeps for a reload. */
export function forget() {
  forgetPicks();
  return images.forget();
}

const Welcome = () => html`<p class="welcome">
  Pick what you want to know, then add images: each gets an answer here.
  A badge says how far an answer can be relied on, wherever that was measured.
  Images go only to this server, and this tab forgets them when you remove them or close it.
</p>`;
