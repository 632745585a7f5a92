"""The runner that mounts one adapter at a time on the backbone itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import torch

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.backbone.fingerprint import nothing
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.runners.runner import BatchScores, Item, by_adapter
from lensmount_adapters.runners.stages import UNWATCHED, Watch, watch_of
from lensmount_adapters.swap.exact import Swapper


class MergedRunner:
    """`MergedRunner(backbone, ExactSwapper(backbone)).scores(items)`: the weights are written in place."""

    mixes = False

    def __init__(self, backbone: Backbone, swapper: Swapper, reason: str = "asked for") -> None:
        self._backbone = backbone
        self._swapper = swapper
        self._reason = reason
        self._watch: Watch = UNWATCHED  # of the batch that is computed

    def ready(self, adapter: Adapter) -> bool:
        return True

    def prepare(self, adapter: Adapter) -> None:
        """Does nothing: the adapter is merged when its first image comes, in milliseconds."""

    def check(self, adapter: Adapter) -> None:
        """Every adapter is served: this runner has no activations, so it finds no image unfamiliar."""

    def prefetch(self, adapter: Adapter, like: str | None = None, share: float = 1.0) -> Future[None]:
        """Does nothing, like `prepare`."""
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def retire(self, digest: str) -> None:
        """Does nothing: nothing is kept per adapter."""

    def settle(self) -> None:
        """Does nothing: nothing is made in the background."""

    def forget(self, digest: str) -> None:
        """Does nothing: nothing is kept per adapter."""

    def pin(self, digest: str, pinned: bool) -> None:
        """Does nothing: only the adapter of the current request is merged."""

    def scores(self, items: Sequence[Item]) -> BatchScores:
        self._watch = watch_of(items, self._backbone.device)
        outcome = BatchScores([torch.empty(0)] * len(items), modes={"merged": len(items)})
        for adapter, rows in by_adapter(items):
            started = time.perf_counter()
            with self._watch.stage("swap", rows):
                switched = self._swapper.mount(adapter)
            merged = time.perf_counter()
            images = torch.stack([items[row].image for row in rows])  # [N, 3, height, width]
            with self._watch.stage("branch", rows, "merged"):
                scores = adapter.image_scores(self._backbone, images).cpu()  # [N, classes]
            outcome.switches += switched
            outcome.swap_s += merged - started if switched else 0.0
            outcome.forward_s += time.perf_counter() - merged
            for row, image_scores in zip(rows, scores, strict=True):
                outcome.scores[row] = image_scores
        outcome.stages = self._watch.stages
        return outcome

    def rest(self) -> None:
        self._swapper.unmount()

    def changed(self, between: Callable[[], None] = nothing) -> list[str]:
        return self._backbone.changed(between)

    def tier(self, digest: str) -> str | None:
        mounted = self._swapper.mounted
        return "merged" if mounted is not None and mounted.digest == digest else None

    def describe(self) -> dict[str, str]:
        dtype = str(self._backbone.dtype).removeprefix("torch.")
        return {"mode": "merged in place", "reason": self._reason, "executor": "eager", "precision": dtype}

    def nbytes(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        self.rest()
