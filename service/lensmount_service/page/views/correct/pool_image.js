/** One image of a pool, as a thumbnail from the server. */

import { html, useEffect, useState } from "../../lib/html.js";
import { picture } from "../../lib/api.js";

export function PoolImage({ pool, digest, alt, side = 512 }) {
  const [shown, setShown] = useState({});
  useEffect(() => {
    let url;
    let gone = false;
    const path = `datasets/${encodeURIComponent(pool)}/unlabelled/${encodeURIComponent(digest)}?side=${side}`;
    picture(path).then(
      (blob) => !gone && setShown({ url: (url = URL.createObjectURL(blob)) }),
      () => !gone && setShown({ broken: true }),
    );
    return () => {
      gone = true;
      if (url) URL.revokeObjectURL(url);
    };
  }, [pool, digest]);
  return html`<img src=${shown.url} alt=${shown.broken ? "This image cannot be shown" : alt} />`;
}
