/** The part of a long table that can be seen: rows of one height in a scrolling box, and space for the others. */

import { useEffect, useRef, useState } from "./html.js";

const SPARE = 12; // rows drawn above and below what is seen
const STEP = 6; // rows by which the drawn part moves, so that most scrolling draws nothing

/** {box, first, last} for `count` rows of `height` pixels: `box` is the ref of the scrolling element. */
export function useRows(count, height) {
  const box = useRef();
  const [seen, setSeen] = useState({ top: 0, rows: 30 });
  useEffect(() => {
    const element = box.current;
    const look = () => {
      const top = Math.floor(element.scrollTop / height / STEP) * STEP;
      const rows = Math.ceil(element.clientHeight / height) + STEP;
      setSeen((before) => (before.top === top && before.rows === rows ? before : { top, rows }));
    };
    look();
    const sizes = new ResizeObserver(look);
    sizes.observe(element);
    element.addEventListener("scroll", look, { passive: true });
    return () => {
      sizes.disconnect();
      element.removeEventListener("scroll", look);
    };
  }, [height]);
  const first = Math.max(0, Math.min(seen.top, count) - SPARE);
  return { box, first, last: Math.min(count, seen.top + seen.rows + SPARE) };
}
