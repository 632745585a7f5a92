"""From the headers of a request to its identity."""

from __future__ import annotations

import asyncio
import secrets
from typing import Protocol

from starlette.datastructures import Headers

from lensmount_service.access.identity import FIRST_ADMIN, LOOPBACK, OWN_WORKER, Identity
from lensmount_service.access.tokens import TokenStore
from lensmount_service.errors import Forbidden, HostNotAllowed, Unauthorized

_LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Verifier(Protocol):
    """Recognises bearer tokens that the server did not make, for example those of an identity provider."""

    async def identify(self, bearer: str) -> Identity | None:
        """None if the token is not of this kind. Raises Unauthorized if it is, and is not valid."""


class Authenticator:
    """`identity = await authenticator.identify(headers)`.

    A server that listens on loopback only (`on_loopback`) and never had a token lets everybody there do everything.
    Host and Origin must then be loopback names, so that a web page in a user's browser cannot reach the server through
    DNS rebinding. The first token ends that, also after it was revoked or has expired. `worker_token` is what this
    server's own worker sends; it lives as long as the process, and does not count as a first token.
    """

    def __init__(
        self,
        tokens: TokenStore,
        first_token: str | None = None,
        verifiers: tuple[Verifier, ...] = (),
        *,
        on_loopback: bool = True,
    ) -> None:
        self.worker_token = secrets.token_urlsafe(32)
        self._tokens = tokens
        self._first_token = None if first_token is None else first_token.encode()
        self._verifiers = verifiers
        self._on_loopback = on_loopback

    async def identify(self, headers: Headers) -> Identity:
        """Raises Unauthorized, HostNotAllowed, Forbidden (`origin_not_allowed`) or Unavailable."""
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        bearer = bearer.strip()
        if scheme.lower() == "bearer" and bearer:
            found = await self._of(bearer)
            if found is not None:
                return found
        elif await self._is_open():
            _require_own_names(headers)
            return LOOPBACK
        raise Unauthorized("found no valid token, expected the header Authorization: Bearer TOKEN")

    async def _of(self, bearer: str) -> Identity | None:
        if self._first_token is not None and secrets.compare_digest(bearer.encode(), self._first_token):
            return FIRST_ADMIN
        if secrets.compare_digest(bearer.encode(), self.worker_token.encode()):
            return OWN_WORKER
        token = self._tokens.find_cached(bearer) or await asyncio.to_thread(self._tokens.find, bearer)
        if token is not None:
            return token.identity()
        for verifier in self._verifiers:
            identity = await verifier.identify(bearer)
            if identity is not None:
                return identity
        return None

    async def _is_open(self) -> bool:
        if self._first_token is not None or self._verifiers or not self._on_loopback:
            return False
        known = self._tokens.was_there_any_cached()
        return not (await asyncio.to_thread(self._tokens.was_there_any) if known is None else known)


def _require_own_names(headers: Headers) -> None:
    if _without_port(headers.get("host", "")) not in _LOOPBACK_HOSTS:
        raise HostNotAllowed("found a Host that is not loopback. Fix: set a token to serve other names")
    origin = headers.get("origin")
    if origin is not None and _without_port(origin.partition("://")[2]) not in _LOOPBACK_HOSTS:
        raise Forbidden("found a request from a page of another site. Fix: set a token")


def _without_port(host: str) -> str:
    return host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
