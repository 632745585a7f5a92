"""Which version of an alias with a rollout answers a request: a hash of the request's key, and no counter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from lensmount_service.rollout_spec import Rollout, Side, share
from lensmount_service.rollouts.ready import InsteadOf, Ready, Resolve


class Keys(NamedTuple):
    """What requests can be told apart by: their id, who calls, and their headers, whose names are in lower case."""

    request: str
    client: str
    headers: Mapping[str, str]

    def of(self, key: str) -> str | None:
        """The value for `request`, `client` or `header:NAME`; None if the request has no such header."""
        if key == "request":
            return self.request
        if key == "client":
            return self.client
        return self.headers.get(key.partition(":")[2].lower()) or None


def place_of(rollout: Rollout, keys: Keys, chosen: int) -> float | None:
    """Where the key of a request falls in [0, 1); None if it is not why the version `chosen` answers.

    A request without the key, or one of a canary that was not ready, says nothing about either version.
    """
    canary = rollout.canary
    key = None if canary is None else keys.of(canary.key)
    if canary is None or key is None or rollout.takes(key) != (chosen == canary.version):
        return None
    return share(rollout.salt, key)


class Witness(Protocol):
    """Who keeps account of what a choice meets."""

    def refused(self, rollout: Rollout, side: Side, code: str) -> None:
        """A request that belongs to a side which cannot answer, so that the stable version does."""
        ...

    def unkeyed(self, rollout: Rollout) -> None:
        """A request without the header of the rollout's key, so that the stable version answers."""
        ...


class Choice:
    """`choice.choose(rollout, keys, resolve)` is the number of the version that answers; safe from any thread."""

    def __init__(self, ready: Ready, witness: Witness) -> None:
        self.ready = ready
        self._witness = witness

    def choose(self, rollout: Rollout, keys: Keys, resolve: Resolve, stable: str | None = None) -> int:
        """`resolve` gives the canary's adapter. It is called in the background if this server has not prepared it.

        `stable` is the digest of the stable version, whose images the canary will get a part of.
        """
        canary = rollout.canary
        if canary is None:
            return rollout.stable
        key = keys.of(canary.key)
        if key is None:
            self._witness.unkeyed(rollout)
            return rollout.stable
        if not rollout.takes(key):
            return rollout.stable
        if self.ready.has(rollout.id, canary.version):
            return canary.version
        code = self.ready.trouble(rollout.id, canary.version)
        if code is not None:
            self._witness.refused(rollout, "canary", code)
        part = None if stable is None else InsteadOf(stable, canary.percent / 100)
        self.ready.begin(rollout.id, canary.version, resolve, part)
        return rollout.stable

    def failed(self, rollout: Rollout, version: int, code: str) -> None:
        """A canary that was ready cannot be used any more."""
        self.ready.fail(rollout.id, version, code)
        self._witness.refused(rollout, "canary", code)
