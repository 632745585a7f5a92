"""What tests of shadows share: who is told their results, and a fault that lasts until it is let go."""

from __future__ import annotations

import threading

from lensmount_adapters import Adapter
from lensmount_service.engine.shadows import Shadow, ShadowResult

PATIENCE_S = 30.0


class Told:
    """Notes the results of one shadow."""

    def __init__(self, adapter: Adapter) -> None:
        self.results: list[ShadowResult] = []
        self.shadow = Shadow(adapter, self.results.append)

    @property
    def whys(self) -> list[str | None]:
        return [result.why for result in self.results]


class Gate:
    """A fault that lasts until `open` is set."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()

    def __call__(self, digest: str) -> None:
        self.entered.set()
        self.open.wait(PATIENCE_S)
