/** SHA-256 of a file: by the browser where it may (HTTPS and loopback), and else by the lines below, also in pieces. */

const PIECE = 4 << 20; // bytes that are read at a time
const ROOTS = roots();

/** "sha256:…" of a Blob. `piece` is called with each part of it, so that a caller needs no second reading. */
export async function digestOf(blob, piece = () => {}) {
  if (blob.size <= PIECE && globalThis.crypto?.subtle) {
    const bytes = new Uint8Array(await blob.arrayBuffer());
    piece(bytes);
    return named(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)));
  }
  const hash = new Sha256();
  for (let at = 0; at < blob.size; at += PIECE) {
    const bytes = new Uint8Array(await blob.slice(at, at + PIECE).arrayBuffer());
    piece(bytes);
    hash.add(bytes);
  }
  return named(hash.end());
}

const named = (bytes) => `sha256:${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;

/** FIPS 180-4. `new Sha256().add(bytes).end()` is 32 bytes. */
export class Sha256 {
  constructor() {
    this.state = Int32Array.from(ROOTS.first);
    this.w = new Int32Array(64);
    this.rest = new Uint8Array(0);
    this.size = 0;
  }

  add(bytes) {
    this.size += bytes.length;
    let all = bytes;
    if (this.rest.length) {
      all = new Uint8Array(this.rest.length + bytes.length);
      all.set(this.rest);
      all.set(bytes, this.rest.length);
    }
    const whole = all.length - (all.length % 64);
    const view = new DataView(all.buffer, all.byteOffset, all.length);
    for (let at = 0; at < whole; at += 64) this.block(view, at);
    this.rest = all.slice(whole);
    return this;
  }

  end() {
    const bits = this.size * 8;
    const last = new Uint8Array((this.rest.length < 56 ? 56 : 120) - this.rest.length + 8);
    last[0] = 0x80;
    const view = new DataView(last.buffer);
    view.setUint32(last.length - 8, Math.floor(bits / 2 ** 32));
    view.setUint32(last.length - 4, bits >>> 0);
    this.add(last);
    const digest = new DataView(new ArrayBuffer(32));
    this.state.forEach((word, at) => digest.setInt32(4 * at, word));
    return new Uint8Array(digest.buffer);
  }

  block(view, at) {
    const { state, w } = this;
    const each = ROOTS.each;
    for (let t = 0; t < 16; t++) w[t] = view.getUint32(at + 4 * t);
    for (let t = 16; t < 64; t++) {
      const x = w[t - 15], y = w[t - 2];
      const s0 = turn(x, 7) ^ turn(x, 18) ^ (x >>> 3);
      const s1 = turn(y, 17) ^ turn(y, 19) ^ (y >>> 10);
      w[t] = (w[t - 16] + s0 + w[t - 7] + s1) | 0;
    }
    let a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
    for (let t = 0; t < 64; t++) {
      const one = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + each[t] + w[t]) | 0;
      const two = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g, g = f, f = e, e = (d + one) | 0, d = c, c = b, b = a, a = (one + two) | 0;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e, state[5] += f, state[6] += g, state[7] += h;
  }
}

const turn = (word, bits) => (word >>> bits) | (word << (32 - bits));

/** The first 32 bits of the fractional parts of the square roots of 8 primes, and of the cube roots of 64. */
function roots() {
  const primes = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every((prime) => n % prime)) primes.push(n);
  const fraction = (root) => ((root - Math.floor(root)) * 2 ** 32) >>> 0;
  return {
    first: Int32Array.from(primes.slice(0, 8), (prime) => fraction(Math.sqrt(prime))),
    each: Int32Array.from(primes, (prime) => fraction(Math.cbrt(prime))),
  };
}
