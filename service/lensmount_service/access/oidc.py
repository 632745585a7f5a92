"""Bearer tokens of an identity provider (OpenID Connect): checked against its published keys.

Only asymmetric algorithms are taken, whatever the token's header says, so that neither `none` nor a key that is used as
a secret passes. Keys are fetched in a thread when a token names a key that is not known, at most every `REFETCH_S`, and
again after `FRESH_S`. While the provider is away, the known keys are still used. A token that was checked is trusted
for `TRUSTED_S` before its signature is checked again.

The executor's threads and the event loop share `_keys` and `_trusted`, which are replaced or set as a whole. Who
fetches holds `_fetching`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import threading
import time
import urllib.request
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import jwt
import structlog

from lensmount_service.access.identity import DEFAULT_TENANT, Identity, require_tenant
from lensmount_service.access.scopes import Scope, require_scopes
from lensmount_service.errors import RequestInvalid, Unauthorized, Unavailable

log = structlog.get_logger(__name__)

ALGORITHMS = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA",),
}
LEEWAY_S = 30  # by which clocks may differ
FETCH_TIMEOUT_S = 5.0
REFETCH_S = 30.0
FRESH_S = 3600.0
TRUSTED_S = 60.0
MAX_TRUSTED = 1024
MAX_EXPIRY = 2**32  # in the year 2106; a later one is no date everywhere
MAX_TOKEN_BYTES = 8192
MAX_DOCUMENT_BYTES = 2**20
DEFAULT_SCOPES: Mapping[str, str] = {f"lensmount:{scope}": scope for scope in ("predict", "upload", "train", "admin")}


@dataclass(frozen=True, slots=True)
class Provider:
    """`Provider("https://login.example", "lensmount")`. Claims may be nested, as in `realm_access.roles`.

    `scopes` maps values of the claim to scopes, separated by commas. Without `tenant_claim` every caller belongs to
    `tenant`; with it, a token must have the claim.
    """

    issuer: str
    audience: str
    jwks_url: str | None = None  # by default what the issuer's discovery document says
    scopes_claim: str = "scope"
    scopes: Mapping[str, str] = field(default_factory=lambda: DEFAULT_SCOPES)
    tenant_claim: str | None = None
    tenant: str = DEFAULT_TENANT


class OidcVerifier:
    """`identity = await OidcVerifier(provider).identify(bearer)`: a `Verifier` of the authenticator."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._tried_at, self._fetched_at = float("-inf"), float("-inf")
        self._fetching = threading.Lock()
        self._trusted: dict[str, tuple[Identity, float]] = {}
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="lensmount-oidc")

    async def identify(self, bearer: str) -> Identity | None:
        """None for what is no signed token. Raises Unauthorized, or Unavailable (`identity_unavailable`)."""
        if bearer.count(".") != 2 or len(bearer) > MAX_TOKEN_BYTES or not bearer.isascii():
            return None
        digest = hashlib.sha256(bearer.encode()).hexdigest()
        identity, until = self._trusted.get(digest, (None, 0.0))
        if identity is not None and time.time() < until:
            return identity
        checked = await asyncio.get_running_loop().run_in_executor(self._threads, self._check, bearer)
        if checked is not None:
            if len(self._trusted) >= MAX_TRUSTED:
                self._trusted = {}
            self._trusted[digest] = (checked, min(time.time() + TRUSTED_S, checked.expires_at or 0.0))
        return checked

    def _check(self, bearer: str) -> Identity | None:
        try:
            header = jwt.get_unverified_header(bearer)
        except jwt.PyJWTError:
            return None
        key = self._key(header.get("kid"))
        algorithm = header.get("alg")
        if key is None:
            raise _refused("its key is not among those that the provider publishes")
        if algorithm not in ALGORITHMS.get(str(key.key_type), ()):
            raise _refused(f"its algorithm is not one of {', '.join(ALGORITHMS.get(str(key.key_type), ()))}")
        try:
            claims = jwt.decode(
                bearer,
                key.key,
                algorithms=[algorithm],
                audience=self._provider.audience,
                issuer=self._provider.issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
            raise _refused(str(error)[:100]) from error
        return self._identity(claims)

    def _identity(self, claims: dict[str, Any]) -> Identity:
        provider = self._provider
        subject = str(claims["sub"])
        tenant = provider.tenant
        if provider.tenant_claim is not None:
            named = _claim(claims, provider.tenant_claim)
            if not isinstance(named, str):
                raise _refused(f"it has no claim {provider.tenant_claim}")
            tenant = named
        try:
            tenant = require_tenant(tenant)
        except RequestInvalid as error:
            raise _refused(f"its claim {provider.tenant_claim} names no tenant") from error
        scopes = self._scopes(_claim(claims, provider.scopes_claim))
        if not scopes:
            raise _refused(f"its claim {provider.scopes_claim} has none of {', '.join(provider.scopes)}")
        key = hashlib.sha256(json.dumps([provider.issuer, subject]).encode()).hexdigest()
        shown = "".join(letter if letter.isprintable() else "?" for letter in subject[:100])
        return Identity(f"oidc:{shown}", key, scopes, tenant, expires_at=float(min(int(claims["exp"]), MAX_EXPIRY)))

    def _scopes(self, claim: object) -> frozenset[Scope]:
        """Of a text with spaces, as OAuth writes scopes, or a list, as providers write roles."""
        values: Iterable[object] = claim.split() if isinstance(claim, str) else claim if isinstance(claim, list) else ()
        mapped = [
            self._provider.scopes[value]
            for value in values
            if isinstance(value, str) and value in self._provider.scopes
        ]
        names = {name.strip() for scopes in mapped for name in scopes.split(",")}
        return require_scopes(names) if names else frozenset()

    def _key(self, name: object) -> jwt.PyJWK | None:
        """The key of this name; of a token without one, the only key. Fetches if it is not known or not fresh."""
        now = time.monotonic()
        known = self._known(name)
        due = known is None or now - self._fetched_at > FRESH_S
        if due and now - self._tried_at > REFETCH_S and self._fetching.acquire(blocking=not self._keys):
            try:
                if now - self._tried_at > REFETCH_S:
                    self._fetch()
            finally:
                self._fetching.release()
            known = self._known(name)
        if not self._keys:
            raise Unavailable(
                "the keys of the identity provider cannot be read now. Fix: try again, or use a token of this server",
                code="identity_unavailable",
                retry_after_s=max(1, math.ceil(REFETCH_S)),
            )
        return known

    def _known(self, name: object) -> jwt.PyJWK | None:
        if name is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(name) if isinstance(name, str) else None

    def _fetch(self) -> None:
        self._tried_at = time.monotonic()
        try:
            url = self._provider.jwks_url or self._discovered()
            found = _document(url).get("keys", [])
            keys = {
                each.get("kid"): jwt.PyJWK.from_dict(each)
                for each in found
                if each.get("kty") in ALGORITHMS and each.get("use", "sig") == "sig"
            }
        except (OSError, ValueError, TypeError, AttributeError, jwt.PyJWTError) as error:
            log.warning("the keys of the identity provider cannot be read", reason=str(error)[:200])
            return
        if keys:
            self._keys, self._fetched_at, self._trusted = keys, self._tried_at, {}

    def _discovered(self) -> str:
        url = self._provider.issuer.rstrip("/") + "/.well-known/openid-configuration"
        return str(_document(url)["jwks_uri"])


def _document(url: str) -> dict[str, Any]:
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"found the address {url[:80]!r}, expected https://")
    with urllib.request.urlopen(url, timeout=FETCH_TIMEOUT_S) as answer:
        document = json.loads(answer.read(MAX_DOCUMENT_BYTES))
    if not isinstance(document, dict):
        raise ValueError("found another document, expected a JSON object")
    return document


def _claim(claims: dict[str, Any], path: str) -> object:
    """The claim of this name, or the nested one, such as `realm_access.roles`."""
    if path in claims:
        return claims[path]
    value: object = claims
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _refused(reason: str) -> Unauthorized:
    return Unauthorized(
        f"found a token of the identity provider that is not valid here: {reason}. Fix: sign in again for a new one"
    )
