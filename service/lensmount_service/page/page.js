/** The page: adapters are picked above, pictures come in below, and each is asked about at once. */

import { AdapterList } from "./adapters.js";
import { asProblem, get, token } from "./api.js";
import { problemBox } from "./element.js";
import { Picture } from "./picture.js";

const AT_ONCE = 3; // pictures on their way; the others wait here and not in the server's queue
const by = (id) => document.getElementById(id);
const adapters = new AdapterList(by("adapters"), by("filter"), askAll);
let pictures = [];
let waiting = [];
let running = 0;
let maxBytes = Infinity;

async function load() {
  by("problem").replaceChildren();
  try {
    const [list, ready, limits] = await Promise.all([get("adapters"), get("health/ready"), get("limits")]);
    const volumes = /-3d\d*$/.test(ready.backbone);
    maxBytes = volumes ? limits.max_volume_bytes : limits.max_image_bytes;
    by("served").textContent = `Backbone ${ready.backbone}, ${limits.engine.executor} in ${limits.engine.precision}`;
    by("formats").textContent = (volumes ? limits.volume_formats : limits.image_formats).join(", ");
    by("token").hidden = true;
    adapters.show(list.adapters);
    retryRefused();
  } catch (error) {
    refused(error);
  }
  by("forget").hidden = !token.get();
}

function refused(error) {
  const problem = asProblem(error);
  const isFirst = problem.status === 401 && !token.get(); // that a token is asked for is no error
  if (!isFirst) by("problem").replaceChildren(problemBox(problem));
  by("served").textContent = "";
  if (problem.status !== 401) return;
  token.forget();
  by("token").hidden = false;
  by("token-value").focus();
}

function add(files) {
  const made = Array.from(files, (file) => {
    const picture = new Picture(file, { remove: () => remove(picture), again: () => enqueue([picture]) });
    return picture;
  });
  pictures = [...made, ...pictures];
  by("pictures").prepend(...made.map(({ card }) => card));
  enqueue(made);
}

function remove(picture) {
  picture.close();
  pictures = pictures.filter((other) => other !== picture);
  waiting = waiting.filter((other) => other !== picture);
  tell();
}

function askAll() {
  pictures.forEach((picture) => picture.drop());
  waiting = [];
  enqueue(pictures);
}

function retryRefused() {
  enqueue(pictures.filter(({ problem }) => problem?.status === 401));
}

function enqueue(more) {
  waiting.push(...more);
  tell();
  while (running < AT_ONCE && waiting.length) work();
}

async function work() {
  running += 1;
  while (waiting.length) {
    const picture = waiting.shift();
    await picture.ask(adapters.picked, maxBytes);
    if (picture.problem?.status === 401) refused(picture.problem);
    tell();
  }
  running -= 1;
  tell();
}

function tell() {
  const left = waiting.length + running;
  const wrong = pictures.filter(({ problem }) => problem).length;
  const parts = [`${pictures.length} ${pictures.length === 1 ? "picture" : "pictures"}`];
  if (left) parts.push(`${left} on their way`);
  if (wrong) parts.push(`${wrong} with an error`);
  by("status").textContent = pictures.length ? parts.join(", ") : "";
  by("clear").hidden = pictures.length < 2;
  by("opacity-field").hidden = !pictures.some(({ hasMasks }) => hasMasks);
}

function setOpacity() {
  by("pictures").style.setProperty("--opacity", by("opacity").value / 100);
}

by("files").addEventListener("change", (event) => {
  add(event.target.files);
  event.target.value = ""; // the same file may be chosen again
});
by("clear").addEventListener("click", () => [...pictures].forEach(remove));
by("refresh").addEventListener("click", load);
by("opacity").addEventListener("input", setOpacity);
by("forget").addEventListener("click", () => {
  token.forget();
  adapters.clear();
  load();
});
by("token").addEventListener("submit", (event) => {
  event.preventDefault();
  try {
    token.set(by("token-value").value.trim());
  } catch (error) {
    by("problem").replaceChildren(problemBox(error));
    return;
  }
  by("token-value").value = "";
  load();
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) add(event.clipboardData.files);
});
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  // The whole page takes files: one that misses the field must not make the browser leave the page.
  document.addEventListener(kind, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    by("drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop") add(event.dataTransfer.files);
  });
}
setOpacity();
load();
