/** What the task still needs, in the user's words. */

import { plural } from "../../lib/parts.js";

export const DRAFT = 5; // images of each class: with fewer, no score means anything
export const TRAIN = 20;

/** The classes that are taught: those with images, or that the user named. */
export function taught({ classes, images }) {
  const counts = new Map();
  for (const { classId } of images) counts.set(classId, (counts.get(classId) ?? 0) + 1);
  return classes.map((each) => ({ ...each, count: counts.get(each.id) ?? 0 })).filter(({ count, given }) => count || given);
}

/** Images that are in several classes: [{digest, images}]. */
export function conflicts({ images }) {
  const known = new Map();
  for (const image of images) known.set(image.digest, [...(known.get(image.digest) ?? []), image]);
  return [...known].filter(([, same]) => same.length > 1).map(([digest, same]) => ({ digest, images: same }));
}

/** The first thing that keeps the task from being taught, or null. */
export function missing(state) {
  const classes = taught(state);
  const names = classes.map(({ name }) => name.trim().toLowerCase());
  const twice = classes.find(({ name }, at) => names.indexOf(name.trim().toLowerCase()) !== at);
  const few = classes.find(({ count }) => count < DRAFT);
  const clash = conflicts(state).length;
  if (classes.filter(({ count }) => count).length < 2) return "Add images of at least two classes.";
  if (names.includes("")) return "Give every class a name.";
  if (twice) return `Two classes are called ${twice.name}. Rename one of them.`;
  if (few) return `Add ${plural(DRAFT - few.count, "image")} to ${few.name}, or remove this class.`;
  if (clash) return `${plural(clash, "image")} ${clash === 1 ? "is" : "are"} in two classes. Choose one class for each.`;
  return null;
}

/** Whether each class has enough images for training. */
export const enough = (state) => taught(state).every(({ count }) => count >= TRAIN);

/** What a class needs next. */
export function need(count) {
  if (count < DRAFT) return `${DRAFT - count} more for a first draft`;
  if (count < TRAIN) return `${TRAIN - count} more for training`;
  return "enough to train";
}
