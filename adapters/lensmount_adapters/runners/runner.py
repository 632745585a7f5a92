"""From a batch of images, each with its adapter, to scores: what the one owner of the backbone calls.

| class | how | for |
|---|---|---|
| `SegmentRunner` (runners/segment_runner.py) | trunk once, then each branch or one for many | what can be traced |
| `MergedRunner` | the whole backbone, merged in place by a swapper | everything else |
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.swap.exact import Swapper


class Item(Protocol):
    """One image [3, height, width], preprocessed by its adapter's rule."""

    @property
    def adapter(self) -> Adapter: ...

    @property
    def image(self) -> Tensor: ...


@dataclass(slots=True)
class Outcome:
    """Scores [classes] for each item in turn, and where the time went, in seconds.

    `modes` counts images by how their branch was computed: "hot", "merged", "mixed"; `switches` counts merges.
    """

    scores: list[Tensor]
    swap_s: float = 0.0
    forward_s: float = 0.0
    switches: int = 0
    modes: dict[str, int] = field(default_factory=dict)


class Runner(Protocol):
    """Only the thread that owns the backbone calls `scores`, `rest`, `changed` and `close`.

    The others are safe from any thread.
    """

    mixes: bool  # whether a batch of several adapters is cheaper than its parts

    def ready(self, adapter: Adapter) -> bool:
        """Whether the adapter's images need not wait for anything to be made."""
        ...

    def prepare(self, adapter: Adapter) -> None:
        """Make what the adapter's first image would else wait for: seconds where its cut is new, else milliseconds."""
        ...

    def prefetch(self, adapter: Adapter) -> None:
        """As `prepare`, in the background, and its merged weights too where there is room for them."""
        ...

    def forget(self, digest: str) -> None:
        """Give up what is held for an adapter that left memory; it is prepared anew if it comes back."""
        ...

    def pin(self, digest: str, pinned: bool) -> None:
        """A pinned adapter keeps its merged weights ready, whatever else is asked for."""
        ...

    def scores(self, items: Sequence[Item]) -> Outcome:
        """Raises SwapError, leaving the base; whatever the forward pass raises passes through."""
        ...

    def rest(self) -> None:
        """Return to the base, where anything is mounted."""
        ...

    def changed(self) -> list[str]:
        """Resident tensors that are not what they were at start; asked while at rest."""
        ...

    def tier(self, digest: str) -> str | None:
        """ "hot" or "merged" where the adapter's merged weights are resident, else None."""
        ...

    def describe(self) -> dict[str, str]:
        """How it computes: executor, precision and mode, for people to read."""
        ...

    def nbytes(self) -> dict[str, int]:
        """Bytes held, by tier."""
        ...

    def close(self) -> None:
        """Leave the backbone as it was found."""
        ...


class MergedRunner:
    """`MergedRunner(backbone, ExactSwapper(backbone)).scores(items)`: the weights are written in place."""

    mixes = False

    def __init__(self, backbone: Backbone, swapper: Swapper, reason: str = "asked for") -> None:
        self._backbone = backbone
        self._swapper = swapper
        self._reason = reason

    def ready(self, adapter: Adapter) -> bool:
        return True

    def prepare(self, adapter: Adapter) -> None:
        """Nothing to do: merging is the first image's own and takes milliseconds."""

    def prefetch(self, adapter: Adapter) -> None:
        """As `prepare`."""

    def forget(self, digest: str) -> None:
        """Nothing is held."""

    def pin(self, digest: str, pinned: bool) -> None:
        """One adapter at a time is merged, the one that is asked for."""

    def scores(self, items: Sequence[Item]) -> Outcome:
        outcome = Outcome([torch.empty(0)] * len(items), modes={"merged": len(items)})
        for adapter, rows in by_adapter(items):
            started = time.perf_counter()
            switched = self._swapper.mount(adapter)
            merged = time.perf_counter()
            images = torch.stack([items[row].image for row in rows])  # [N, 3, height, width]
            scores = adapter.image_scores(self._backbone, images).cpu()  # [N, classes]
            outcome.switches += switched
            outcome.swap_s += merged - started if switched else 0.0
            outcome.forward_s += time.perf_counter() - merged
            for row, one in zip(rows, scores, strict=True):
                outcome.scores[row] = one
        return outcome

    def rest(self) -> None:
        self._swapper.unmount()

    def changed(self) -> list[str]:
        return self._backbone.changed()

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


def by_adapter(items: Sequence[Item]) -> list[tuple[Adapter, list[int]]]:
    """The rows of each adapter, in the order in which the adapters first appear."""
    groups: dict[str, tuple[Adapter, list[int]]] = {}
    for row, item in enumerate(items):
        groups.setdefault(item.adapter.digest, (item.adapter, []))[1].append(row)
    return list(groups.values())
