/** The page: the user picks adapters above and adds images below; each image is sent to the server at once. */

import { AdapterList } from "./adapters.js";
import { asProblem, get, token } from "./api.js";
import { showDatasets } from "./datasets.js";
import { problemBox } from "./element.js";
import { ImageCard } from "./image_card.js";
import { Labelling } from "./labelling.js";

const AT_ONCE = 3; // images in progress; the others wait here instead of in the server's queue
const by = (id) => document.getElementById(id);
const adapters = new AdapterList(by("adapters"), by("filter"), predictAll);
const labelling = new Labelling(by("labelling"), by("labelling-images"));
let cards = [];
let waiting = [];
let running = 0;
let maxBytes = Infinity;

async function load() {
  by("problem").replaceChildren();
  try {
    const paths = ["whoami", "adapters", "adapters?public=true", "health/ready", "limits"];
    const [who, own, shared, ready, limits] = await Promise.all(paths.map(get));
    const list = [...own.adapters, ...othersOf(own.adapters, shared.adapters)];
    const { datasets } = mayTrain(who) ? await get("datasets") : { datasets: [] };
    showWho(who);
    const volumes = /-3d\d*$/.test(ready.backbone);
    maxBytes = volumes ? limits.max_volume_bytes : limits.max_image_bytes;
    by("served").textContent = `Backbone ${ready.backbone}, executor ${limits.engine.executor}, ${limits.engine.precision}`;
    by("formats").textContent = (volumes ? limits.volume_formats : limits.image_formats).join(", ");
    by("token").hidden = true;
    adapters.show(list);
    showDatasets(by("datasets-section"), by("datasets"), datasets, load);
    labelling.show(list);
    by("labelling-section").hidden = !labelling.adapters.length || volumes;
    retryRefused();
  } catch (error) {
    showRefusal(error);
  }
  by("forget").hidden = !token.get();
}

/** What others share as public/NAME, without the bytes that have an own name here. */
function othersOf(own, shared) {
  const known = new Set(own.map(({ digest }) => digest));
  return shared.filter(({ digest }) => !known.has(digest));
}

const mayTrain = ({ scopes }) => scopes.includes("train") || scopes.includes("admin");

/** Who the server takes the user for; nothing on an open server, where everybody is the same. */
function showWho({ actor, tenant, scopes }) {
  by("who").textContent = actor === "loopback" ? "" : tenant === "default" ? actor : `${actor} (${tenant})`;
  by("who").title = `May: ${scopes.join(", ")}`;
}

function showRefusal(error) {
  const problem = asProblem(error);
  const isFirst = problem.status === 401 && !token.get(); // the first request for a token is not an error
  if (!isFirst) by("problem").replaceChildren(problemBox(problem));
  by("served").textContent = "";
  by("who").textContent = "";
  if (problem.status !== 401) return;
  token.forget();
  by("token").hidden = false;
  by("token-value").focus();
}

function add(files) {
  const added = Array.from(files, (file) => {
    const card = new ImageCard(file, { remove: () => remove(card), again: () => enqueue([card]) });
    return card;
  });
  cards = [...added, ...cards];
  by("images").prepend(...added.map(({ element }) => element));
  enqueue(added);
}

function remove(card) {
  card.close();
  cards = cards.filter((other) => other !== card);
  waiting = waiting.filter((other) => other !== card);
  showStatus();
}

function predictAll() {
  cards.forEach((card) => card.drop());
  waiting = [];
  enqueue(cards);
}

function retryRefused() {
  enqueue(cards.filter(({ problem }) => problem?.status === 401));
}

function enqueue(more) {
  waiting.push(...more);
  showStatus();
  while (running < AT_ONCE && waiting.length) work();
}

async function work() {
  running += 1;
  while (waiting.length) {
    const card = waiting.shift();
    await card.predict(adapters.picked, maxBytes);
    if (card.problem?.status === 401) showRefusal(card.problem);
    showStatus();
  }
  running -= 1;
  showStatus();
}

function showStatus() {
  const left = waiting.length + running;
  const wrong = cards.filter(({ problem }) => problem).length;
  const parts = [`${cards.length} ${cards.length === 1 ? "image" : "images"}`];
  if (left) parts.push(`${left} in progress`);
  if (wrong) parts.push(`${wrong} with an error`);
  by("status").textContent = cards.length ? parts.join(", ") : "";
  by("clear").hidden = cards.length < 2;
  by("opacity-field").hidden = !cards.some(({ hasMasks }) => hasMasks);
}

function setOpacity() {
  by("images").style.setProperty("--opacity", by("opacity").value / 100);
}

by("files").addEventListener("change", (event) => {
  add(event.target.files);
  event.target.value = ""; // the same file may be chosen again
});
by("clear").addEventListener("click", () => [...cards].forEach(remove));
by("refresh").addEventListener("click", load);
by("opacity").addEventListener("input", setOpacity);
by("forget").addEventListener("click", () => {
  token.forget();
  adapters.clear();
  showDatasets(by("datasets-section"), by("datasets"), []);
  by("labelling-section").hidden = true;
  by("labelling-images").replaceChildren();
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
  // The whole page accepts files, so that a file dropped next to the field does not make the browser leave the page.
  document.addEventListener(kind, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    by("drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop") add(event.dataTransfer.files);
  });
}
setOpacity();
load();
