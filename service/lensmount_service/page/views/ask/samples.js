/** Sample images that the server brings: drawn ones, for the adapters that were trained on images like them. */

import { html, useState } from "../../lib/html.js";
import { asProblem, picture } from "../../lib/api.js";
import { ProblemBox } from "../../lib/parts.js";
import { useSession } from "../../lib/session.js";
import { images } from "./images.js";

/** Files of page/samples/, with labels of the adapters that they fit. All are drawings and show no real person. */
const SAMPLES = [
  { labels: ["Parasitized", "Uninfected"], files: ["cell-parasitized.png", "cell-uninfected.png"] },
  { labels: ["lung_aca", "lung_n"], files: ["tissue-adenocarcinoma.jpg", "tissue-normal.jpg"] },
  { labels: ["smoking", "notsmoking"], files: ["smoker.jpg"] },
  { labels: ["birch", "maple", "oak"], files: ["leaf-birch.png", "leaf-maple.png", "leaf-oak.png"] },
];

/** A button that adds the samples for the picked adapters; nothing if none fits. */
export function Samples({ picks }) {
  const { adapters } = useSession();
  const [problem, setProblem] = useState(null);
  const asked = adapters.filter(({ name }) => picks.some((pick) => pick.name === name));
  const fits = ({ labels }) => asked.some((adapter) => labels.every((label) => adapter.labels.includes(label)));
  const names = SAMPLES.filter(fits).flatMap(({ files }) => files);
  if (!names.length) return null;
  const add = async () => {
    setProblem(null);
    try {
      const blobs = await Promise.all(names.map((name) => picture(`page/samples/${name}`)));
      images.add(blobs.map((blob, at) => ({ file: new File([blob], names[at], { type: blob.type }), path: names[at] })));
    } catch (error) {
      setProblem(asProblem(error));
    }
  };
  return html`<button type="button" onClick=${add}>Try with drawn samples</button>${problem && html`<${ProblemBox} problem=${problem} again=${add} />`}`;
}
