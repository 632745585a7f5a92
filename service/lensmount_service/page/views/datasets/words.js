/** What a dataset has, in words. */

import { number, plural } from "../../lib/parts.js";
import { address } from "../../lib/route.js";

export const datasetPath = (name) => `datasets/${encodeURIComponent(name)}`;
export const datasetLink = (name) => address("datasets", [name]);

/** "60 images: birch 20, maple 20, …" */
export function contentOf({ images, classes }, most = 8) {
  const counts = Object.entries(classes).map(([label, count]) => `${label} ${number(count)}`);
  const more = counts.length > most ? `, … (${number(counts.length)} classes)` : "";
  return `${plural(images, "image")}: ${counts.slice(0, most).join(", ")}${more}`;
}
