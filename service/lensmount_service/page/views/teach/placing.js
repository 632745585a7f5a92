/** Which class each file of a drop belongs to, by its folders. */

const PARTS = /^(train|training|val|valid|validation|dev|test|testing|eval|holdout)$/i; // they divide images, and are no classes

/**
 * {name, placed: [{file, path, label}]} of files with paths. `label` is the class folder, or null for a file without one.
 * `name` is the folder around the classes, if there is one: leaves/oak/1.png is the class oak of leaves.
 */
export function place(found) {
  const folders = found.map(({ path }) => path.split("/").slice(0, -1));
  let name = null;
  let depth = 0;
  const at = (level) => new Set(folders.map((parts) => parts[level]));
  const deeper = (level) => folders.every((parts) => parts.length > level + 1);
  while (deeper(depth) && (at(depth).size === 1 || [...at(depth)].every((word) => PARTS.test(word)))) {
    if (at(depth).size === 1 && !PARTS.test(folders[0][depth])) name = folders[0][depth];
    depth += 1;
  }
  return { name, placed: found.map((each, index) => ({ ...each, label: folders[index][depth] ?? null })) };
}

/** A name for the server from the user's words: "Oak leaves" is "oak-leaves". It may be empty. */
export const asName = (text) =>
  text
    .normalize("NFKD")
    .replace(/\p{M}/gu, "")
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, "-")
    .replace(/^[^a-z0-9]+|[^a-z0-9]+$/g, "")
    .slice(0, 48);
