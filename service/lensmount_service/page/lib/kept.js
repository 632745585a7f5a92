/** What a reload keeps: records in IndexedDB, which ends when the user clears it. Without it the page works and forgets. */

/** `const kept = new Kept("teach", ["images", "task"]); await kept.put("images", record)`, records by their `id`. */
export class Kept {
  constructor(name, stores) {
    this.opened = new Promise((resolve, reject) => {
      const request = indexedDB.open(`lensmount-${name}`, 1);
      request.onupgradeneeded = () => stores.forEach((store) => request.result.createObjectStore(store, { keyPath: "id" }));
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    }).catch(() => null); // a private window, or a full disk
  }

  all = (store) => this.turn(store, "readonly", (records) => records.getAll(), []);
  put = (store, record) => this.turn(store, "readwrite", (records) => records.put(record));
  remove = (store, id) => this.turn(store, "readwrite", (records) => records.delete(id));
  clear = (store) => this.turn(store, "readwrite", (records) => records.clear());

  async turn(store, mode, ask, otherwise) {
    const database = await this.opened;
    if (!database) return otherwise;
    return new Promise((resolve) => {
      const request = ask(database.transaction(store, mode).objectStore(store));
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => resolve(otherwise);
    });
  }
}
