/** The server: its health and limits, whether its weights are unchanged, who may use it, and who did what. */

import { html } from "../lib/html.js";
import { address } from "../lib/route.js";
import { useSession } from "../lib/session.js";
import Audit from "./server/audit.js";
import Health from "./server/health.js";
import Limits from "./server/limits.js";
import Tokens from "./server/tokens.js";

const TABS = {
  health: ["Health", null, Health],
  limits: ["Limits", null, Limits],
  tokens: ["Tokens", "admin", Tokens],
  audit: ["Who did what", "admin", Audit],
};

export default function Server({ route: { rest: [tab] } }) {
  const { may } = useSession();
  const shown = Object.entries(TABS).filter(([, [, scope]]) => !scope || may(scope));
  const chosen = shown.some(([key]) => key === tab) ? tab : "health";
  const View = TABS[chosen][2];
  return html`<div class="view-head"><h2>Server</h2></div>
    <nav class="tabs" aria-label="About this server">
      ${shown.map(([key, [title]]) => html`<a key=${key} href=${key === "health" ? address("server") : address("server", [key])} aria-current=${key === chosen ? "page" : undefined}>${title}</a>`)}
    </nav>
    <${View} />`;
}
