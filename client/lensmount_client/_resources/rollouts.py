"""The `rollouts` of a client: try a new version while the present one serves, and keep or drop it."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Any

from lensmount_client._api import rollouts as endpoints
from lensmount_client._api.rollouts import Wanted
from lensmount_client._http.operation import AsyncSendCall, SendCall, arun_operation, run_operation
from lensmount_client._types.rollouts import RolloutReport


class Rollouts:
    """`client.rollouts.start("malaria", "prod", canary=8, percent=10)`, then `client.rollouts.promote(...)`."""

    def __init__(self, send: SendCall) -> None:
        self._send = send

    def start(
        self,
        name: str,
        alias: str,
        *,
        canary: int | None = None,
        percent: float | None = None,
        key: str = "request",
        shadow: int | None = None,
        sample: float = 1.0,
        rules: Mapping[str, Any] | None = None,
    ) -> RolloutReport:
        """Keep `name:alias` at its version, and try another one on some of its requests.

        The version `canary` answers `percent` (0 to 100) of the alias's requests. `key` is "request" for a draw a
        request, "client" to keep each caller on one side, or "header:NAME" for one side by the value of that header
        (`predict(headers=...)`). The version `shadow` computes the part `sample` (0 to 1) of the images, and nobody
        gets its answers. `rules` replace values of the server's rules for rolling back by itself. Returns when the
        server has loaded what it needs. A later start with the same versions changes the rollout, such as its
        percentage, and one with other versions replaces it. Raises AliasNotFound, VersionNotFound, AliasProtected,
        RolloutInvalid, and PreconditionFailed if somebody moves the alias meanwhile.
        """
        wanted = Wanted(canary, percent, key, shadow, sample, rules)
        return run_operation(endpoints.start(name, alias, wanted), self._send)

    def status(self, name: str, alias: str) -> RolloutReport:
        """What all servers saw of the alias's rollout, or of its last one. Raises RolloutNotFound if it had none."""
        return self._send(endpoints.status(name, alias))

    def list(self, name: str) -> builtins.list[RolloutReport]:
        """The reports of all aliases of an adapter that have a rollout."""
        return self._send(endpoints.list_rollouts(name))

    def promote(self, name: str, alias: str) -> RolloutReport:
        """Point the alias at its canary's version, or without a canary at its shadow's. The rollout ends.

        Raises RolloutNotFound or AliasProtected.
        """
        return run_operation(endpoints.end(name, alias, "promote"), self._send)

    def rollback(self, name: str, alias: str) -> RolloutReport:
        """End the rollout; the alias stays at its stable version. Raises RolloutNotFound or AliasProtected."""
        return run_operation(endpoints.end(name, alias, "rollback"), self._send)


class AsyncRollouts:
    """Like `Rollouts`, for AsyncClient: `await client.rollouts.promote("malaria", "prod")`."""

    def __init__(self, send: AsyncSendCall) -> None:
        self._send = send

    async def start(
        self,
        name: str,
        alias: str,
        *,
        canary: int | None = None,
        percent: float | None = None,
        key: str = "request",
        shadow: int | None = None,
        sample: float = 1.0,
        rules: Mapping[str, Any] | None = None,
    ) -> RolloutReport:
        """See `Rollouts.start`."""
        wanted = Wanted(canary, percent, key, shadow, sample, rules)
        return await arun_operation(endpoints.start(name, alias, wanted), self._send)

    async def status(self, name: str, alias: str) -> RolloutReport:
        """See `Rollouts.status`."""
        return await self._send(endpoints.status(name, alias))

    async def list(self, name: str) -> builtins.list[RolloutReport]:
        """See `Rollouts.list`."""
        return await self._send(endpoints.list_rollouts(name))

    async def promote(self, name: str, alias: str) -> RolloutReport:
        """See `Rollouts.promote`."""
        return await arun_operation(endpoints.end(name, alias, "promote"), self._send)

    async def rollback(self, name: str, alias: str) -> RolloutReport:
        """See `Rollouts.rollback`."""
        return await arun_operation(endpoints.end(name, alias, "rollback"), self._send)
