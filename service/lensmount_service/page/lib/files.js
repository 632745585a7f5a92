/** The files of a drop, a file input or a paste, each with the folders that it lay in. */

const LEFTOVERS = /^(\.|__MACOSX$|Icon\r$|Thumbs\.db$|desktop\.ini$|@eaDir$|\$RECYCLE\.BIN$)/i; // what systems leave in folders
const IMAGES = /\.(png|jpe?g|jpe|jfif|webp|tiff?|bmp|gif|jp2|j2k|j2c|jpx|jpf|avif|hei[cf]|dcm|dicom)$/i; // as docs/data.md says

/** Whether the server may read the file as an image, by its name or by what the browser takes it for. */
export const isImage = ({ name, type }) => IMAGES.test(name) || type.startsWith("image/");

/**
 * What a drop event brings: [{file, path}], `path` with the folders ("cells/ring/1.png") and without a slash for a file
 * that was dropped by itself. Folders are read to their end. Call it before anything is awaited: a drop is empty later.
 */
export async function fromDrop(transfer) {
  const entries = [...transfer.items].filter(({ kind }) => kind === "file").map((item) => item.webkitGetAsEntry?.());
  if (!entries.length || entries.includes(null) || entries.includes(undefined)) return listed([...transfer.files]);
  const found = await Promise.all(entries.map((entry) => walk(entry, "")));
  return found.flat();
}

/** What a file input has, also one with `webkitdirectory`. The input is emptied, so that the same files can be chosen again. */
export function fromInput(input) {
  const found = listed([...input.files]);
  input.value = "";
  return found;
}

/** The files of a paste event. A screenshot has no name of its own. */
export const fromPaste = (event) => listed([...(event.clipboardData?.files ?? [])]);

const listed = (files) =>
  files
    .map((file) => ({ file, path: file.webkitRelativePath || file.name }))
    .filter(({ path }) => !path.split("/").some((part) => LEFTOVERS.test(part)));

async function walk(entry, folder) {
  if (LEFTOVERS.test(entry.name)) return [];
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ file, path: folder + entry.name }];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // at most 100 at a time
    if (!some.length) break;
    found.push(...some.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true })));
  }
  const below = [];
  for (const each of found) below.push(...(await walk(each, `${folder}${entry.name}/`)));
  return below;
}
