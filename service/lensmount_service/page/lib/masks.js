/** Paints masks that are given as run lengths (COCO, uncompressed: column by column, zeros first). */

// The same as in the server's PNG and the client's overlay.
const COLOURS = [[255, 82, 82], [66, 165, 245], [102, 187, 106], [255, 202, 40], [171, 71, 188], [38, 198, 218]];
const MAX_PIXELS = 4_000_000; // of a canvas; of a larger image only every second (third, ...) pixel is painted

export const colourOf = (index) => COLOURS[index % COLOURS.length];

/** Paint `layers`, each {counts, size: [height, width], colour}, the first on top. Throws RangeError for invalid runs. */
export function paint(canvas, layers) {
  const [height, width] = layers[0].size;
  const step = Math.max(1, Math.ceil(Math.sqrt((height * width) / MAX_PIXELS)));
  canvas.width = Math.ceil(width / step);
  canvas.height = Math.ceil(height / step);
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const pixels = new Uint32Array(image.data.buffer);
  for (const { counts, colour } of layers.toReversed()) {
    const value = new Uint32Array(new Uint8ClampedArray([...colour, 255]).buffer)[0];
    fill(counts, height, width, (x, y) => {
      if (x % step === 0 && y % step === 0) pixels[(y / step) * canvas.width + x / step] = value;
    });
  }
  context.putImageData(image, 0, 0);
}

/** Call `set(x, y)` for each pixel in the mask. */
function fill(counts, height, width, set) {
  if (counts.reduce((sum, count) => sum + count, 0) !== height * width) {
    throw new RangeError(`found run lengths that do not add up to ${height} x ${width} pixels`);
  }
  let start = 0;
  counts.forEach((count, run) => {
    if (run % 2 === 1) for (let at = start; at < start + count; at++) set(Math.floor(at / height), at % height);
    start += count;
  });
}
