/** Loads training.css for every view that shows a training job. An @import would do, but axe-core copies those into the page. */

const link = document.createElement("link");
Object.assign(link, { rel: "stylesheet", href: new URL("training.css", import.meta.url).href });
const there = new Promise((resolve) => (link.onload = link.onerror = resolve));
document.head.append(link);
await there;
