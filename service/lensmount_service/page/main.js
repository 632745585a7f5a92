/** The page: one view at a time below a bar of links. A view is loaded when it is first shown. */

import { html, render, useCallback, useEffect, useRef, useState } from "./lib/html.js";
import { asProblem, token } from "./lib/api.js";
import { ProblemBox, Waiting } from "./lib/parts.js";
import { address, useRoute } from "./lib/route.js";
import { Session, openSession } from "./lib/session.js";

/**
 * Views in the order of the bar: the title, what the token must allow, and the module whose default export is the component.
 * A module that keeps something for a reload exports `forget()` as well.
 */
const VIEWS = {
  ask: { title: "Ask", scope: "predict", load: () => import("./views/ask.js") },
  teach: { title: "Teach", scope: "train", load: () => import("./views/teach.js") },
  correct: { title: "Correct", scope: "train", load: () => import("./views/correct.js") },
  adapters: { title: "Adapters", scope: null, load: () => import("./views/adapters.js") },
  jobs: { title: "Jobs", scope: "train", load: () => import("./views/jobs.js") },
  datasets: { title: "Datasets", scope: "train", load: () => import("./views/datasets.js") },
  server: { title: "Server", scope: null, load: () => import("./views/server.js") },
};

function Page() {
  const route = useRoute();
  const name = route.view in VIEWS ? route.view : "ask";
  const [session, setSession] = useState(null);
  const [problem, setProblem] = useState(null);
  const reload = useCallback(async () => {
    try {
      setSession(await openSession());
      setProblem(null);
    } catch (error) {
      refused(asProblem(error));
    }
  }, []);
  const refused = (found) => {
    const first = found.status === 401 && !token.get(); // the first request for a token is not an error
    if (found.status === 401) {
      token.forget();
      setSession(null);
    }
    setProblem(first ? { ...found, first } : found);
  };
  useEffect(() => void reload(), []);
  const forget = async () => {
    token.forget();
    setSession(null);
    await Promise.all(Object.values(VIEWS).map(({ load }) => load().then((view) => view.forget?.(), () => {})));
    reload();
  };
  return html`
    <${Top} name=${name} session=${session} forget=${forget} />
    <main id="main" tabindex="-1">
      ${problem && !problem.first && html`<${ProblemBox} problem=${problem} again=${reload} />`}
      ${problem?.status === 401 && html`<${TokenForm} opened=${reload} />`}
      ${session && html`<${Session.Provider} value=${{ ...session, reload, refused }}><${View} key=${name} name=${name} route=${route} /><//>`}
      ${!session && !problem && html`<${Waiting}>Connecting to the server<//>`}
    </main>
    <${Foot} session=${session} />`;
}

function Top({ name, session, forget }) {
  const shown = Object.entries(VIEWS).filter(([, { scope }]) => session && (!scope || session.may(scope)));
  const bar = useRef();
  useEffect(() => showCurrent(bar.current), [name, session]);
  const left = ({ relatedTarget: next }) => bar.current.contains(next) || showCurrent(bar.current); // Tab has scrolled it
  return html`<header>
    <a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <h1>Lensmount</h1>
    <nav aria-label="Views" ref=${bar} onBlurCapture=${left}>
      ${shown.map(([view, { title }]) => html`<a key=${view} href=${address(view)} aria-current=${view === name ? "page" : undefined}>${title}</a>`)}
    </nav>
    <div class="right">
      ${session && html`<${Who} who=${session.who} />`}
      <a href="docs">API reference</a>
      ${token.get() && html`<button type="button" class="plain" onClick=${forget}>Forget the token</button>`}
    </div>
  </header>`;
}

/** Scrolls the bar, where it is wider than the window, until the link of the present view is in its middle. */
function showCurrent(bar) {
  const link = bar.querySelector("[aria-current]");
  if (link) bar.scrollLeft += link.getBoundingClientRect().x - bar.getBoundingClientRect().x - (bar.clientWidth - link.offsetWidth) / 2;
}

/** What serves the page. */
function Foot({ session }) {
  return html`<footer class="quiet">
    <span>For research use only.</span>
    ${session && html`<span id="served">Backbone ${session.ready.backbone}, executor ${session.limits.engine.executor}, ${session.limits.engine.precision}</span>`}
  </footer>`;
}

/** Who the server takes the user for; nothing on an open server, where everybody is the same. */
function Who({ who: { actor, tenant, scopes } }) {
  if (actor === "loopback") return null;
  return html`<span id="who" class="quiet" title="May: ${scopes.join(", ")}">${tenant === "default" ? actor : `${actor} (${tenant})`}</span>`;
}

function TokenForm({ opened }) {
  const [problem, setProblem] = useState(null);
  const field = useRef();
  useEffect(() => field.current.focus(), []);
  const submit = (event) => {
    event.preventDefault();
    try {
      token.set(field.current.value.trim());
    } catch (error) {
      setProblem(error);
      return;
    }
    opened();
  };
  return html`<form class="panel" onSubmit=${submit}>
    <label for="token-value">Token</label>
    <input id="token-value" ref=${field} type="password" autocomplete="off" spellcheck="false" required aria-describedby="token-note" />
    <button>Use this token</button>
    <p id="token-note" class="quiet">This server requires a token. The page keeps it until you close this tab.</p>
    ${problem && html`<${ProblemBox} problem=${problem} />`}
  </form>`;
}

/** The component of a view, once its module is here. It gets the route, and the session by `useSession`. */
function View({ name, route }) {
  const [shown, setShown] = useState(null);
  const { title, load } = VIEWS[name];
  useEffect(() => void (shown && performance.mark("interactive")), [shown]); // the view answers to clicks
  useEffect(() => {
    document.title = `${title} · Lensmount`;
    Promise.all([load(), style(name)]).then(
      ([module]) => setShown({ Component: module.default }),
      (error) => setShown({ problem: asProblem(error) }),
    );
  }, []);
  if (!shown) return html`<${Waiting}>Loading<//>`;
  if (shown.problem) return html`<${ProblemBox} problem=${shown.problem} />`;
  return html`<${shown.Component} route=${route} />`;
}

const styles = new Map([["ask", null]]); // of views; index.html has that of the first one

/** Adds the style of a view, and waits for it, so that the view is not seen without. */
function style(name) {
  if (!styles.has(name)) {
    const link = Object.assign(document.createElement("link"), { rel: "stylesheet", href: `page/views/${name}.css` });
    styles.set(name, new Promise((resolve) => (link.onload = link.onerror = resolve)));
    document.head.append(link);
  }
  return styles.get(name);
}

/** Moves the focus; the link's own hash would be taken for a view. */
function skip(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

render(html`<${Page} />`, document.getElementById("page"));
