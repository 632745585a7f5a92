"""Shortcuts: optional ways to compute part of a batch faster, each of them one file behind one Protocol.

`SegmentRunner` works without any of them. Each is registered by one line in segment_runner.py, so removing a shortcut
means removing its file and that line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lensmount_adapters.programs.executor import Program
from lensmount_adapters.runners.batch import Batch, Share, ShareFeatures, items_of, rows_of, take


@dataclass(frozen=True, slots=True)
class Offer:
    """One program that computes some shares of a batch.

    `program(x, *others)` gives the features of the shares in turn, [N, feature_dim]; x are the rows of the activations,
    or of the images if `from_images`. With `pooled`, the pooled activations follow as further columns; with
    `activations`, the shape for one image, so do the activations, which the batch then has. `record(N,
    seconds)` is called after a run. `measured` is False while the runs of the program are its own measurement, so no
    other program may replace them.
    """

    key: Hashable  # of the program in the hot cache
    program: Program
    shares: Sequence[Share]
    mode: str
    others: tuple[Tensor, ...] = ()
    from_images: bool = False
    pooled: bool = False
    activations: torch.Size | None = None
    measured: bool = True
    record: Callable[[int, float], None] = lambda images, seconds: None

    def compute(self, batch: Batch) -> list[ShareFeatures]:
        """Run the program and split its features by share."""
        x = take(batch.images if self.from_images else batch.activations(), rows_of(self.shares))
        started = time.perf_counter()
        with batch.watch.stage("branch", items_of(self.shares), self.mode):
            features = self.program(x, *self.others)
        self.record(len(x), time.perf_counter() - started)
        if self.activations is not None:
            size = self.activations.numel()
            batch.give(features[:, -size:].reshape(-1, *self.activations), rows_of(self.shares))
            features = features[:, :-size].contiguous()  # as it is without these columns
        results = []
        for share, part in zip(self.shares, torch.split(features, [len(s.rows) for s in self.shares]), strict=True):
            own, pooled = part.tensor_split([batch.split.feature_dim], 1) if self.pooled else (part, None)
            results.append(ShareFeatures(share, own, self.mode, pooled))
        return results


class Shortcut(Protocol):
    """Sees every batch, and makes a program in the background once the recent batches justify it."""

    def offer(self, batch: Batch, before: Offer | None) -> Offer | None:
        """A program for some shares of the batch; `before`, the offer of the shortcut registered earlier, if none is
        better. The runner computes the shares that the last offer leaves out. Only the engine's thread calls this.
        """
        ...

    def forget(self, digest: str) -> None:
        """Forget an adapter that left memory. Safe from any thread."""
        ...
