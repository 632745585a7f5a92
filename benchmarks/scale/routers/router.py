"""The interface of a router, and what it sees of the fleet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

DEAD = 1 << 40  # the load of a server that is not there


@dataclass
class Loads:
    """The requests that each server has accepted and not answered."""

    servers: int
    of: NDArray[np.int64] = field(init=False)
    total: int = 0
    alive: int = 0

    def __post_init__(self) -> None:
        self.of = np.zeros(self.servers, np.int64)
        self.alive = self.servers

    def add(self, server: int, requests: int) -> None:
        self.of[server] += requests
        self.total += requests

    def kill(self, server: int) -> None:
        self.total -= int(self.of[server])
        self.of[server] = DEAD
        self.alive -= 1

    def revive(self, server: int) -> None:
        self.of[server] = 0
        self.alive += 1

    @property
    def mean(self) -> float:
        return self.total / self.alive


class Router(Protocol):
    """`router.choose(request, adapter, loads, now)` is a server, or None: then it is asked again after `wait_s`.

    `retries`: a request of a server that died goes to another one. `splits_batches`: the server computes the adapters
    of a batch one after the other, each with a pass of the trunk.
    """

    name: str
    retries: bool
    splits_batches: bool

    def choose(self, request: int, adapter: int, loads: Loads, now: float) -> int | None: ...

    def wait_s(self, request: int) -> float: ...

    def loaded(self, server: int, adapter: int, at: float) -> None:
        """A server has the adapter in memory from then on."""

    def dropped(self, server: int, adapter: int | None) -> None:
        """A server no longer has the adapter in memory; None: it has lost all."""


class Simple:
    """A router that retries, never waits and is not told what servers have in memory."""

    retries = True
    splits_batches = False

    def wait_s(self, request: int) -> float:
        raise NotImplementedError("this router always chooses")

    def loaded(self, server: int, adapter: int, at: float) -> None:
        pass

    def dropped(self, server: int, adapter: int | None) -> None:
        pass
