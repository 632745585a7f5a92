/** Who may use the server: its tokens. A secret is shown once, because the server keeps only its hash. */

import { html, useState } from "../../lib/html.js";
import { get, send } from "../../lib/api.js";
import { Asks, Copied, Outcome, Part, useAction } from "../../lib/controls.js";
import { Badge, Empty, ProblemBox, Waiting, useAsked } from "../../lib/parts.js";
import { useSession } from "../../lib/session.js";
import { When } from "../../lib/words.js";
import { mayOf, quotasOf } from "./health.js";

const DAY = 86_400;
const LIFETIMES = { "": "until it is revoked", [DAY]: "a day", [30 * DAY]: "30 days", [90 * DAY]: "90 days", [365 * DAY]: "a year" };
const SCOPES = { predict: "ask adapters", upload: "upload and change adapters", train: "upload images and train", admin: "manage tokens, read the audit log" };
const DEFAULTS = { predict: true, upload: false, train: false, admin: false };

export default function Tokens() {
  const { value, problem, reload } = useAsked(() => get("tokens"), []);
  const [made, setMade] = useState(null);
  return html`
    ${made && html`<${Secret} made=${made} done=${() => setMade(null)} />`}
    <${Make} first=${value?.tokens.length === 0} done=${(token) => (setMade(token), reload())} />
    <${Part} title="Tokens" side=${html`<button type="button" onClick=${reload}>Refresh</button>`}>
      ${problem && html`<${ProblemBox} problem=${problem} again=${reload} />`}
      ${!value && !problem && html`<${Waiting} />`}
      ${value?.tokens.length === 0 && html`<${Empty} title="There are no tokens yet">The first one must be allowed to manage tokens, so that you do not lock yourself out.<//>`}
      ${value?.tokens.length > 0 && html`<ul class="rows" id="tokens">${value.tokens.map((token) => html`<${Row} key=${`${token.tenant}/${token.name}`} token=${token} reload=${reload} made=${setMade} />`)}</ul>`}
    <//>`;
}

const pathOf = ({ name }) => `tokens/${encodeURIComponent(name)}`;
const inTenant = ({ tenant }) => `?tenant=${encodeURIComponent(tenant)}`;

function Secret({ made: { name, secret }, done }) {
  return html`<div class="said secret" role="status"><div>
    <p><b>The secret of ${name}. Copy it now: it is shown only once.</b></p>
    <p><${Copied} label="The secret of ${name}" text=${secret} /></p>
    <p class="quiet">Its owner types it where this page asks for a token, or sets LENSMOUNT_TOKEN.</p>
    <button type="button" onClick=${done}>I have it</button>
  </div></div>`;
}

function Make({ first, done }) {
  const { who } = useSession();
  const [name, setName] = useState("");
  const [scopes, setScopes] = useState(DEFAULTS);
  const [lifetime, setLifetime] = useState("");
  const [tenant, setTenant] = useState(who.tenant);
  const action = useAction();
  const make = (event) => {
    event.preventDefault();
    action.run(async () => {
      const chosen = Object.keys(SCOPES).filter((scope) => scopes[scope]);
      const body = { name: name.trim(), scopes: chosen, ...(lifetime && { lifetime_s: Number(lifetime) }), ...(who.operator && tenant.trim() && { tenant: tenant.trim() }) };
      const token = await send("POST", "tokens", body, { "If-None-Match": "*" });
      setName("");
      done(token);
    });
  };
  const taken = async () => `There is a token called ${name.trim()} already.`;
  return html`<${Part} title="Make a token">
    <form onSubmit=${make}>
      <div class="fields">
        <label class="field">Name<input value=${name} required maxlength="64" autocomplete="off" spellcheck="false" placeholder="reader1" onInput=${({ target }) => setName(target.value)} /></label>
        <label class="field">Valid<select value=${lifetime} onChange=${({ target }) => setLifetime(target.value)}>
          ${Object.entries(LIFETIMES).map(([seconds, words]) => html`<option key=${seconds} value=${seconds}>${words}</option>`)}
        </select></label>
        ${who.operator && html`<label class="field">Group (tenant)<input value=${tenant} maxlength="64" onInput=${({ target }) => setTenant(target.value)} /></label>`}
      </div>
      <fieldset><legend>Its owner may</legend>
        ${Object.entries(SCOPES).map(([scope, words]) => html`<label key=${scope} class="check"><input type="checkbox" checked=${scopes[scope]} onChange=${({ target }) => setScopes({ ...scopes, [scope]: target.checked })} />${words}</label>`)}
      </fieldset>
      ${first && !scopes.admin && html`<p class="quiet">The first token must be allowed to manage tokens.</p>`}
      <p><button class="primary" disabled=${action.busy || !Object.values(scopes).some(Boolean)}>Make the token</button></p>
    </form>
    <${Outcome} action=${action} first=${taken} reload=${() => setName("")} />
  <//>`;
}

function Row({ token, reload, made }) {
  const { who } = useSession();
  const { name, tenant, scopes, created_at, expires_at, quotas, used } = token;
  const action = useAction();
  const own = who.actor === name && who.tenant === tenant;
  const rotate = () => action.run(async () => {
    made(await send("POST", `${pathOf(token)}/rotate${inTenant(token)}`));
    reload();
  });
  const revoke = () => action.run(async () => {
    await send("DELETE", `${pathOf(token)}${inTenant(token)}`);
    reload();
  });
  return html`<li>
    <div class="main"><b>${name}</b> ${tenant !== "default" && html`<${Badge}>${tenant}<//> `}${own && html`<${Badge} kind="busy">yours<//>`}
      <div class="quiet">May ${mayOf(scopes)}.</div>
      <div class="quiet">Made <${When} at=${created_at} />, ${expires_at ? html`valid until <${When} at=${expires_at} />` : "valid until it is revoked"}.</div>
      ${quotasOf(quotas, used).map(([title, words]) => html`<div key=${title} class="quiet">${title}: ${words}</div>`)}
    </div>
    <div class="end">
      <${Asks} label="New secret for ${name}" title="Give ${name} a new secret?" danger=${false} yes="New secret" disabled=${action.busy} act=${rotate}>
        The old one is refused from now on. ${own ? "It is your own: this page asks you for the new one." : ""}
      <//>
      <${Asks} label="Revoke ${name}" title="Revoke ${name}?" yes="Revoke" disabled=${action.busy} act=${revoke}>
        It is refused from the next request on. This cannot be undone. ${own ? "It is your own: you lock yourself out." : ""}
      <//>
    </div>
    <${Outcome} action=${action} reload=${reload} />
  </li>`;
}
