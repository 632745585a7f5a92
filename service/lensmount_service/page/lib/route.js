/** The address of a view: `#/adapters/malaria?version=2` is {view: "adapters", rest: ["malaria"], query}. */

import { useEffect, useState } from "./html.js";

export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [view, ...rest] = path.split("/").map(decoded);
  return { view, rest, query: new URLSearchParams(query) };
}

/** The text of a part; a part that is not well encoded, such as one typed by hand, is taken as it is. */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The hash of a view. Every part is encoded, so that a name may hold any character. */
export function address(view, rest = [], query = {}) {
  const words = new URLSearchParams(query).toString();
  return `#/${[view, ...rest].map(encodeURIComponent).join("/")}${words && `?${words}`}`;
}

/** The route that the address bar shows now. */
export function useRoute() {
  const [route, setRoute] = useState(() => parse(location.hash));
  useEffect(() => {
    const changed = () => setRoute(parse(location.hash));
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}
