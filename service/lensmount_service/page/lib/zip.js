/** Packs files into a zip as the server reads it, without compression: images have their own. Reads zips of others. */

const MOST_FILES = 65_535; // beyond these a zip needs its 64-bit form
const MOST_BYTES = 2 ** 32 - 1;
const PIECE = 4 << 20;
const DAY = 0x21; // 1 January 1980: equal files make equal zips, so an upload resumes
const UTF8 = 0x800;
const MOST_UNPACKED = 2 ** 30;
const encoder = new TextEncoder();
const decoder = new TextDecoder();
const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

/** CRC-32 of `bytes`, continued from that of the bytes before them. */
export function crc32(bytes, before = 0) {
  let crc = ~before;
  for (let at = 0; at < bytes.length; at++) crc = TABLE[(crc ^ bytes[at]) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/**
 * A Blob of `files`, each {path, blob} and a `crc` if it is known. The files themselves are not copied into memory.
 * Throws RangeError for more than the format's first form holds: 65,535 files, 4 GiB.
 */
export async function pack(files) {
  if (files.length > MOST_FILES) throw new RangeError(`found ${files.length} files, expected at most ${MOST_FILES}`);
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const { path, blob, crc = await crcOf(blob) } of files) {
    const name = encoder.encode(path.normalize("NFC"));
    const local = record(30, 0x04034b50, [[4, 20], [6, UTF8], [12, DAY], [26, name.length]], [[14, crc], [18, blob.size], [22, blob.size]]);
    const entry = record(
      46,
      0x02014b50,
      [[4, 20], [6, 20], [8, UTF8], [14, DAY], [28, name.length]],
      [[16, crc], [20, blob.size], [24, blob.size], [42, offset]],
    );
    parts.push(local, name, blob);
    directory.push(entry, name);
    offset += local.length + name.length + blob.size;
    if (offset > MOST_BYTES) throw new RangeError(`found more than ${MOST_BYTES} bytes, expected less`);
  }
  const size = directory.reduce((sum, { length }) => sum + length, 0);
  const end = record(22, 0x06054b50, [[8, files.length], [10, files.length]], [[12, size], [16, offset]]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/**
 * The files of a zip, as [{path, blob}]. The server checks a zip far more closely: this one only feeds the page.
 * Throws RangeError for what is no zip, is encrypted, or unpacks to more than 1 GiB.
 */
export async function unpack(zip) {
  const tail = await viewOf(zip.slice(Math.max(0, zip.size - 65_557)));
  let end = tail.byteLength - 22;
  while (end >= 0 && tail.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0) throw new RangeError("found no end of its directory, expected a complete zip file");
  const [size, start] = [tail.getUint32(end + 12, true), tail.getUint32(end + 16, true)];
  const directory = await viewOf(zip.slice(start, start + size));
  const files = [];
  for (let at = 0, total = 0; at + 46 <= directory.byteLength && directory.getUint32(at, true) === 0x02014b50; ) {
    const long = (place) => directory.getUint32(at + place, true);
    const short = (place) => directory.getUint16(at + place, true);
    const path = decoder.decode(new Uint8Array(directory.buffer, at + 46, short(28))).replaceAll("\\", "/");
    const entry = { path, method: short(10), encrypted: short(8) & 1, packed: long(20), size: long(24), offset: long(42) };
    at += 46 + short(28) + short(30) + short(32);
    total += entry.size;
    if (total > MOST_UNPACKED) throw new RangeError("found more than 1 GiB of files, expected less");
    if (!path.endsWith("/")) files.push({ path, blob: await content(zip, entry) });
  }
  return files;
}

async function content(zip, { path, method, encrypted, packed, size, offset }) {
  if (encrypted || ![0, 8].includes(method)) throw new RangeError(`found ${path} encrypted or packed in a rare way`);
  const header = await viewOf(zip.slice(offset, offset + 30));
  const start = offset + 30 + header.getUint16(26, true) + header.getUint16(28, true);
  const data = zip.slice(start, start + packed);
  if (method === 0) return data;
  const parts = [];
  let left = size; // a bomb ends here
  for await (const part of chunks(data.stream().pipeThrough(new DecompressionStream("deflate-raw")))) {
    left -= part.length;
    if (left < 0) throw new RangeError(`found ${path} larger than its zip states`);
    parts.push(part);
  }
  return new Blob(parts);
}

async function* chunks(stream) {
  const reader = stream.getReader();
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) yield read.value;
  } finally {
    reader.cancel().catch(() => {});
  }
}

const viewOf = async (blob) => new DataView(await blob.arrayBuffer());

/** `size` bytes with `magic` in front, and numbers of 16 and 32 bits at their places. */
function record(size, magic, shorts, longs) {
  const view = new DataView(new ArrayBuffer(size));
  view.setUint32(0, magic, true);
  for (const [at, value] of shorts) view.setUint16(at, value, true);
  for (const [at, value] of longs) view.setUint32(at, value, true);
  return new Uint8Array(view.buffer);
}

async function crcOf(blob) {
  let crc = 0;
  for (let at = 0; at < blob.size; at += PIECE) crc = crc32(new Uint8Array(await blob.slice(at, at + PIECE).arrayBuffer()), crc);
  return crc;
}

/** A function that makes paths which no system refuses and which differ, also without regard to upper and lower case. */
export function uniqueNames() {
  const taken = new Set();
  return (text) => {
    const name = safeName(text);
    const [, stem, suffix] = /^(.*?)((?:\.[A-Za-z0-9]{1,10})?)$/u.exec(name);
    let chosen = name;
    for (let number = 2; taken.has(folded(chosen)); number++) chosen = `${stem} (${number})${suffix}`;
    taken.add(folded(chosen));
    return chosen;
  };
}

/** `text` as one part of a path: without separators, control characters, and dots and spaces at its ends; at most 200 bytes. */
function safeName(text) {
  const plain = text.normalize("NFC").replace(/[\p{C}\p{Zl}\p{Zp}/\\:*?"<>|]/gu, "_").replace(/^[\s.]+|[\s.]+$/gu, "");
  const [, stem, suffix] = /^(.*?)((?:\.[A-Za-z0-9]{1,10})?)$/u.exec(plain);
  let short = [...(stem || "image")];
  while (encoder.encode(short.join("")).length > 200 - suffix.length) short = short.slice(0, -1);
  return short.join("").trimEnd() + suffix;
}

const folded = (text) => text.toUpperCase().toLowerCase(); // as Python's casefold for letters such as ß and ς
