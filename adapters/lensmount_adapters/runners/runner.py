"""The interface of a runner: it takes a batch of images, each with its adapter, and returns scores.

| class | how | for |
|---|---|---|
| `SegmentRunner` (segment_runner.py) | the trunk once, then a branch per adapter or for many | traceable backbones |
| `MergedRunner` (merged.py) | the whole backbone, merged in place by a swapper | everything else |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.backbone.fingerprint import nothing
from lensmount_adapters.runners.stages import Stage


class Item(Protocol):
    """One image [3, height, width], preprocessed by its adapter's rule.

    An item may have further attributes, which are False without: with `keeps`, the runner also gives what the trunk
    gave for the image. With `from_trunk`, the image is that: [orientations, ...], on the CPU, of a trunk with the
    identity that `TrunkOutputs.trunk_of` gives for the adapter. With `apart`, its batch runs trunk and branch by
    themselves and each adapter alone, so the bits of the scores do not depend on what was asked before.
    """

    @property
    def adapter(self) -> Adapter: ...

    @property
    def image(self) -> Tensor: ...


@dataclass(slots=True)
class BatchScores:
    """Scores [classes] for each item in turn, and the seconds spent on switches and on everything else.

    `pooled` has for each item the vector [channels] that its adapter compares to tell an unfamiliar image
    (graph/pooling.py), of the image in its first orientation; None if the adapter has no statistics for this cut.
    `modes` counts images by how their branch was computed: "hot", "merged", "mixed", "maps", or "whole" (trunk and
    branch in one program). `switches` counts merges. `maps` are those of `GivesMaps`, and `stages` are measured
    if an item has an attribute `traced` that is true. `trunk` has, for items that keep it, what the trunk gave:
    [orientations, ...], on the CPU; it lacks items for which one program computed trunk and branch.
    """

    scores: list[Tensor]
    swap_s: float = 0.0
    forward_s: float = 0.0
    switches: int = 0
    modes: dict[str, int] = field(default_factory=dict)
    maps: list[Tensor] = field(default_factory=list)
    pooled: list[Tensor | None] = field(default_factory=list)
    stages: Sequence[Stage] = ()
    trunk: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pooled = self.pooled or [None] * len(self.scores)


class Runner(Protocol):
    """Only the thread that owns the backbone calls `scores`, `rest`, `changed` and `close`.

    All other methods are safe from any thread.
    """

    mixes: bool  # whether a batch of several adapters is cheaper than its parts

    def check(self, adapter: Adapter) -> None:
        """Raises AdapterInvalid (`trust_mismatch`) for statistics of a layer whose activations the runner never has."""
        ...

    def ready(self, adapter: Adapter) -> bool:
        """Whether the adapter's images can be computed without making anything first."""
        ...

    def prepare(self, adapter: Adapter) -> None:
        """Make what the adapter's first image would otherwise wait for.

        This takes seconds if the cut is new, otherwise milliseconds.
        """
        ...

    def prefetch(self, adapter: Adapter, like: str | None = None, share: float = 1.0) -> Future[None]:
        """Prepare in the background, and merge the adapter's weights too if there is room for them.

        `share` of the images of the adapter with the digest `like` are expected, so it may have the memory of adapters
        that are used less. The future is done once everything is made; it may never be if the runner closes.
        """
        ...

    def retire(self, digest: str) -> None:
        """No more images are expected: nothing more is made for the adapter, and its memory goes to others first."""
        ...

    def settle(self) -> None:
        """Wait until everything that was asked for in the background is made."""
        ...

    def forget(self, digest: str) -> None:
        """Drop everything kept for an adapter that left memory. It is prepared again if it comes back."""
        ...

    def pin(self, digest: str, pinned: bool) -> None:
        """A pinned adapter keeps its merged weights ready, whatever else is requested."""
        ...

    def scores(self, items: Sequence[Item]) -> BatchScores:
        """Compute the scores of each item.

        Raises SwapError, with the base restored. Errors of the forward pass are passed on.
        """
        ...

    def rest(self) -> None:
        """Return to the base if an adapter is mounted."""
        ...

    def changed(self, between: Callable[[], None] = nothing) -> list[str]:
        """Names of resident tensors that differ from what they were at start. Called while at rest.

        `between` is called after each tensor, and may compute batches if it returns at rest.
        """
        ...

    def tier(self, digest: str) -> str | None:
        """ "hot" or "merged" if the adapter's merged weights are in memory, otherwise None."""
        ...

    def describe(self) -> dict[str, str]:
        """The executor, precision and mode, for people to read."""
        ...

    def nbytes(self) -> dict[str, int]:
        """Bytes in memory, by tier."""
        ...

    def close(self) -> None:
        """Stop, and leave the backbone as it was at start."""
        ...


@runtime_checkable
class Sheds(Protocol):
    """A runner that holds what it can make again."""

    def shed(self) -> int:
        """Free it, because one image found too little memory; returns the bytes. Called as `scores` is."""
        ...


@runtime_checkable
class GivesMaps(Protocol):
    """A runner that computes the last maps next to the scores, at the cost of the scores alone."""

    def prepare_maps(self, adapter: Adapter) -> bool:
        """Make what the adapter's maps need; safe from any thread. Returns False if this runner cannot give them.

        Raises ExplainError if the features of the backbone are not the mean of a map.
        """
        ...

    def maps(self, items: Sequence[Item]) -> BatchScores:
        """Scores, and in `maps` the last maps [orientations, feature_dim, rows, columns] of each item, float32.

        The adapters were prepared. Called as `scores` is.
        """
        ...


@runtime_checkable
class TrunkOutputs(Protocol):
    """A runner whose trunk runs by itself, so that what it gives can be kept and used for another adapter."""

    def trunk_of(self, adapter: Adapter) -> str | None:
        """The identity of the trunk before the adapter's branch; safe from any thread.

        None if the adapter changes the first layer, is merged in place, or was not prepared.
        """
        ...


def by_adapter(items: Sequence[Item]) -> list[tuple[Adapter, list[int]]]:
    """The rows of each adapter, in the order in which the adapters first appear."""
    groups: dict[str, tuple[Adapter, list[int]]] = {}
    for row, item in enumerate(items):
        groups.setdefault(item.adapter.digest, (item.adapter, []))[1].append(row)
    return list(groups.values())
