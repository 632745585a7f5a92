/** Sends the task's images to the server as one dataset. */

import { get, Problem, sendFile } from "../../lib/api.js";
import { digestOf } from "../../lib/digest.js";
import { pack, uniqueNames } from "../../lib/zip.js";

const MANIFEST = "manifest.jsonl"; // states the class of each file, so that folders and names mean nothing

/** What PUT /datasets/{name} answers. `progress(share)` is called while it is sent. Throws Problem. */
export async function sendDataset({ name, classes, images }, limits, progress) {
  const zip = await zipped(classes, images);
  const path = `datasets/${encodeURIComponent(name)}`;
  if (zip.size > limits.max_dataset_bytes) throw tooLarge(zip.size, limits.max_dataset_bytes);
  if (zip.size <= limits.max_upload_chunk_bytes) return sendFile("PUT", path, zip);
  const upload = `${path}/uploads/${await digestOf(zip)}`;
  let { received } = await get(upload);
  for (;;) {
    const end = Math.min(zip.size, received + limits.max_upload_chunk_bytes);
    const answer = await sendFile("PUT", upload, zip.slice(received, end), { "Content-Range": `bytes ${received}-${end - 1}/${zip.size}` });
    if (answer.digest) return answer;
    received = answer.received;
    progress(received / zip.size);
  }
}

/** A zip of the images below folders of their classes, with the list of their labels. */
export async function zipped(classes, images) {
  const folderOf = uniqueNames();
  const folders = new Map(classes.map(({ id, name }) => [id, { label: name.trim().normalize("NFC"), folder: folderOf(name), unique: uniqueNames() }]));
  const rows = [];
  const files = images.map(({ classId, path, file, crc }) => {
    const { label, folder, unique } = folders.get(classId);
    const row = { path: `${folder}/${unique(path.split("/").at(-1))}`, label };
    rows.push(JSON.stringify(row));
    return { path: row.path, blob: file, crc };
  });
  return pack([{ path: MANIFEST, blob: new Blob([`${rows.join("\n")}\n`]) }, ...files]);
}

const tooLarge = (found, most) =>
  new Problem({
    title: "Too many bytes",
    detail: `found images of ${found} bytes, expected at most ${most}. Fix: leave some out, or save them smaller`,
    code: "payload_too_large",
  });
