/** What belongs to one tab: a name for its images in IndexedDB, which a reload finds again and another tab does not. */

const KEY = "lensmount-tab";

/** The name of this tab, or null if it has none yet. `make` gives it one. It ends with the tab. */
export function tabSet(make = false) {
  if (make && !sessionStorage.getItem(KEY)) {
    const parts = crypto.getRandomValues(new Uint32Array(3));
    sessionStorage.setItem(KEY, [...parts].map((part) => part.toString(36)).join("-"));
  }
  return sessionStorage.getItem(KEY);
}

export const forgetTab = () => sessionStorage.removeItem(KEY);
