/** Sizes, times and durations as people write them. */

import { html } from "./html.js";

const UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB"];
const moment = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });
const figure = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

/** "32 MiB", "317 KiB", "1 byte" */
export function bytes(count) {
  if (count === 1) return "1 byte";
  const power = count < 1 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log2(count) / 10));
  return `${figure.format(count / 1024 ** power)} ${UNITS[power]}`;
}

/** "31 s", "5 min", "2 h 10 min", "30 days" */
export function duration(seconds) {
  if (seconds < 1) return `${figure.format(1000 * seconds)} ms`;
  if (seconds < 90) return `${figure.format(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${Math.round(hours / 24)} days`;
}

/** A share as "97 %" or "97.2 %". */
export const share = (value) => `${figure.format(100 * value)} %`;

export const moments = (text) => moment.format(new Date(text));

/** A time of the server in the user's own time zone; the machine-readable one is on it. */
export const When = ({ at }) => html`<time datetime=${at} title=${at}>${moments(at)}</time>`;

/** " by anna", or nothing on an open server, where everybody is the same. */
export const byWhom = (actor) => (actor && actor !== "loopback" ? ` by ${actor}` : "");

/** "a", "a and b", "a, b and c", and of many "a, b, c and 4 more" */
export function listed(names, most = 8) {
  const rest = names.length - most;
  const shown = rest > 0 ? [...names.slice(0, most), `${rest} more`] : names;
  return [shown.slice(0, -1).join(", "), shown.at(-1)].filter(Boolean).join(" and ");
}
