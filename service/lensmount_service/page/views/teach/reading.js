/** A file that the user brings becomes an image of the task, or the reason why it cannot. */

import { digestOf } from "../../lib/digest.js";
import { isImage } from "../../lib/files.js";
import { crc32 } from "../../lib/zip.js";

const SIDE = 160; // pixels of a thumbnail's longer side
const SMALL = 24; // below this a network sees hardly anything
const SHOWN_BY_BROWSERS = /\.(png|jpe?g|jpe|jfif|webp|bmp|gif)$/i; // the server alone checks the others

/** {file, path, digest, crc, thumb, doubt} or {path, refused}. `limits` is GET /limits. */
export async function read({ file, path }, limits) {
  const refused = (reason) => ({ path, refused: reason });
  if (!isImage(file)) return refused("it is not an image");
  if (!file.size) return refused("it is empty");
  if (file.size > limits.max_image_bytes) return refused(`it has more than ${Math.floor(limits.max_image_bytes / 2 ** 20)} MiB`);
  let crc = 0;
  try {
    const digest = await digestOf(file, (bytes) => (crc = crc32(bytes, crc)));
    const seen = await look(file, limits);
    return seen.refused ? refused(seen.refused) : { file, path, digest, crc, ...seen };
  } catch {
    return refused("it cannot be read any more: was it moved or deleted?");
  }
}

async function look(file, limits) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return SHOWN_BY_BROWSERS.test(file.name) ? { refused: "it is damaged" } : { thumb: null, doubt: null };
  }
  const { width, height } = bitmap;
  if (width * height > limits.max_pixels) {
    bitmap.close();
    return { refused: `it has more than ${Math.floor(limits.max_pixels / 1e6)} megapixels` };
  }
  const scale = Math.min(1, SIDE / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const doubt = Math.min(width, height) < SMALL ? `only ${width} × ${height} pixels` : plain(context, canvas) ? "one colour only" : null;
  return { thumb: await new Promise((resolve) => canvas.toBlob(resolve, "image/webp", 0.85)), doubt };
}

/** Whether all pixels have nearly one colour. */
function plain(context, { width, height }) {
  const { data } = context.getImageData(0, 0, width, height);
  for (let at = 4; at < data.length; at++) if (Math.abs(data[at] - data[at % 4]) > 3) return false;
  return true;
}
