"""What the engine answers: the scores of one image, and the report of an integrity check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lensmount_adapters.runners.stages import Stage


@dataclass(frozen=True, slots=True)
class Answer:
    """The scores [classes] of one image, and how long each step took.

    `pooled` [channels] tells an unfamiliar image; None if the adapter has no statistics for it.
    `maps` [orientations, feature_dim, rows, columns] are the last maps, for images that were queued for them.
    """

    scores: Tensor
    queue_s: float
    swap_s: float
    forward_s: float
    batch_size: int
    pooled: Tensor | None = None
    maps: Tensor | None = None
    stages: Sequence[Stage] = ()  # the time in the queue first; empty unless its trace is recorded
    trunk: Tensor | None = None  # what the trunk gave, [orientations, ...], for images that keep it


@dataclass(frozen=True, slots=True)
class IntegrityReport:
    """Which resident tensors differ from their hash at start; `ok` if none does."""

    tensors: int
    changed: tuple[str, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        return not self.changed
