"""The `tokens` of a client: who may use a server, and what for. Needs the scope admin."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from typing import Any

from lensmount_client._api import tokens as endpoints
from lensmount_client._http.operation import AsyncSendCall, SendCall
from lensmount_client._types.access import Token, TokenSecret


class Tokens:
    """`client.tokens.create("reader1", ["predict"]).secret`. Administrators manage the tokens of their tenant."""

    def __init__(self, send: SendCall) -> None:
        self._send = send

    def create(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        tenant: str | None = None,
        lifetime_s: float | None = None,
        quotas: Mapping[str, Any] | None = None,
    ) -> TokenSecret:
        """Make a token. Keep its secret: the server shows it only once.

        `scopes` are some of predict, upload, train and admin, which includes the others. `tenant` is by default the
        own one. `lifetime_s` is in seconds; without it the token lasts until it is revoked. `quotas` are fields of
        `Quotas`, such as {"requests_per_minute": 600}. Raises TokenExists, or ScopeMissing for more than one has.
        """
        return self._send(endpoints.create(name, scopes, tenant, lifetime_s, quotas))

    def list(self, tenant: str | None = None) -> builtins.list[Token]:
        """The valid tokens of the own tenant; for operators those of `tenant`, or of all."""
        return self._send(endpoints.list_tokens(tenant))

    def revoke(self, name: str, *, tenant: str | None = None) -> None:
        """The server refuses the token from the next request on. Raises TokenNotFound."""
        return self._send(endpoints.revoke(name, tenant))

    def rotate(self, name: str, *, tenant: str | None = None) -> TokenSecret:
        """Give the token a new secret. The old one is refused from now on. Raises TokenNotFound."""
        return self._send(endpoints.rotate(name, tenant))


class AsyncTokens:
    """Like `Tokens`, for AsyncClient: `(await client.tokens.create("reader1", ["predict"])).secret`."""

    def __init__(self, send: AsyncSendCall) -> None:
        self._send = send

    async def create(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        tenant: str | None = None,
        lifetime_s: float | None = None,
        quotas: Mapping[str, Any] | None = None,
    ) -> TokenSecret:
        """See `Tokens.create`."""
        return await self._send(endpoints.create(name, scopes, tenant, lifetime_s, quotas))

    async def list(self, tenant: str | None = None) -> builtins.list[Token]:
        """See `Tokens.list`."""
        return await self._send(endpoints.list_tokens(tenant))

    async def revoke(self, name: str, *, tenant: str | None = None) -> None:
        """See `Tokens.revoke`."""
        return await self._send(endpoints.revoke(name, tenant))

    async def rotate(self, name: str, *, tenant: str | None = None) -> TokenSecret:
        """See `Tokens.rotate`."""
        return await self._send(endpoints.rotate(name, tenant))
