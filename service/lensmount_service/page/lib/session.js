/** What every view knows about the server: who asks, what it serves, and which adapters there are. */

import { createContext, useContext } from "./html.js";
import { get } from "./api.js";

export const Session = createContext(null);

/** The session of the page: {who, ready, limits, adapters, volumes, may(scope), reload()}. */
export const useSession = () => useContext(Session);

/** Asks the server for everything that the first view needs, in one round. Throws Problem. */
export async function openSession() {
  const paths = ["whoami", "adapters", "adapters?public=true", "health/ready", "limits"];
  const [who, own, shared, ready, limits] = await Promise.all(paths.map((path) => get(path)));
  return {
    who,
    ready,
    limits,
    adapters: [...own.adapters, ...othersOf(own.adapters, shared.adapters)],
    volumes: /-3d\d*$/.test(ready.backbone),
    may: (scope) => who.scopes.includes(scope) || who.scopes.includes("admin"),
  };
}

/** What others share as public/NAME, without the bytes that have an own name here. */
function othersOf(own, shared) {
  const known = new Set(own.map(({ digest }) => digest));
  return shared.filter(({ digest }) => !known.has(digest));
}
