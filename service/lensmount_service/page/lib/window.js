/** The part of a long list that the window shows: rows of one height, and space for the others above and below. */

import { useEffect, useRef, useState } from "./html.js";

const SPARE = 15; // rows drawn above and below what is seen
const STEP = 10; // rows by which the drawn part moves, so that most scrolling draws nothing

/** {list, first, last} for `count` rows of `height` pixels that scroll with the page: `list` is the ref of their element. */
export function useWindow(count, height) {
  const list = useRef();
  const [seen, setSeen] = useState({ top: 0, rows: 3 * STEP });
  useEffect(() => {
    const look = () => {
      const above = Math.max(0, -(list.current?.getBoundingClientRect().top ?? 0));
      const top = Math.floor(above / height / STEP) * STEP;
      const rows = Math.ceil(innerHeight / height) + STEP;
      setSeen((before) => (before.top === top && before.rows === rows ? before : { top, rows }));
    };
    look();
    addEventListener("scroll", look, { passive: true });
    addEventListener("resize", look);
    return () => {
      removeEventListener("scroll", look);
      removeEventListener("resize", look);
    };
  }, [height, count]);
  const first = Math.max(0, Math.min(seen.top, count) - SPARE);
  return { list, first, last: Math.min(count, seen.top + seen.rows + SPARE) };
}

/** Whether the window is narrower than `pixels` now. */
export function useNarrow(pixels) {
  const [narrow, setNarrow] = useState(() => innerWidth < pixels);
  useEffect(() => {
    const look = () => setNarrow(innerWidth < pixels);
    addEventListener("resize", look);
    return () => removeEventListener("resize", look);
  }, [pixels]);
  return narrow;
}
