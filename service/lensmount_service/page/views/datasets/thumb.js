/** A small image of a dataset. It is asked for when it comes near the window, so a long list does not ask for all at once. */

import { html, useEffect, useRef, useState } from "../../lib/html.js";
import { picture } from "../../lib/api.js";
import { datasetPath } from "./words.js";

const SIDE = 96;

export default function Thumb({ name, version, path }) {
  const image = useRef();
  const [source, setSource] = useState(null);
  const [broken, setBroken] = useState(false);
  useEffect(() => {
    const query = new URLSearchParams({ path, version, side: 2 * SIDE });
    let url = null;
    const observer = new IntersectionObserver(async ([{ isIntersecting }]) => {
      if (!isIntersecting) return;
      observer.disconnect();
      try {
        url = URL.createObjectURL(await picture(`${datasetPath(name)}/items/image?${query}`));
        setSource(url);
      } catch {
        setBroken(true);
      }
    }, { rootMargin: "200px" });
    observer.observe(image.current);
    return () => {
      observer.disconnect();
      if (url) URL.revokeObjectURL(url);
    };
  }, [name, version, path]);
  return html`<img ref=${image} src=${source} alt=${broken ? `${path} cannot be shown` : path} width=${SIDE} height=${SIDE} />`;
}
