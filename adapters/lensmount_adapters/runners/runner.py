"""From a batch of images, each with its adapter, to scores: what the one owner of the backbone calls.

| class | how | for |
|---|---|---|
| `SegmentRunner` (runners/segment_runner.py) | trunk once, then each branch or one for many | what can be traced |
| `MergedRunner` | the whole backbone, merged in place by a swapper | everything else |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter


class Item(Protocol):
    """One image [3, height, width], preprocessed by its adapter's rule."""

    @property
    def adapter(self) -> Adapter: ...

    @property
    def image(self) -> Tensor: ...


@dataclass(slots=True)
class BatchScores:
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

    def scores(self, items: Sequence[Item]) -> BatchScores:
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


def by_adapter(items: Sequence[Item]) -> list[tuple[Adapter, list[int]]]:
    """The rows of each adapter, in the order in which the adapters first appear."""
    groups: dict[str, tuple[Adapter, list[int]]] = {}
    for row, item in enumerate(items):
        groups.setdefault(item.adapter.digest, (item.adapter, []))[1].append(row)
    return list(groups.values())
