"""Logits of the training images by networks that never saw them: trained as the run was, each without one fold.

The networks read the views that the run has kept, so that only the branch is computed again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.adapter.file import dump_adapter
from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.programs.precision import precision_name
from lensmount_adapters.training.answer import served_logits
from lensmount_adapters.training.checkpoint import checkpoint_path
from lensmount_adapters.training.config import FILE_DTYPES, TrainingConfig
from lensmount_adapters.training.loop import Listener, Progress, TrainingLoop
from lensmount_adapters.training.objective import Batch, Classification, Feed
from lensmount_adapters.training.trainable import TrainableAdapter
from lensmount_adapters.training.training_data import TrainingData
from lensmount_adapters.training.views import OnProgress


class FoldFeed:
    """The batches of the run's own feed, of some of its images. There is no validation: nothing is chosen."""

    def __init__(self, feed: Feed, own: Tensor) -> None:
        self._feed = feed
        self._own = own

    @property
    def cached_views(self) -> int:
        return self._feed.cached_views

    def prepare(self, epoch: int, on_progress: OnProgress) -> None:
        self._feed.prepare(epoch, on_progress)

    def batch(self, epoch: int, indices: Tensor) -> Batch:
        return self._feed.batch(epoch, self._own[indices])

    def validation(self) -> Iterator[Tensor]:
        return iter(())


class Fold(Classification):
    """The objective of the run on its training images `own` alone; the last epoch is the best."""

    def __init__(self, config: TrainingConfig, data: TrainingData, feed: Feed, own: Tensor) -> None:
        super().__init__(config, data)
        self._feed = FoldFeed(feed, own)
        self._own = own

    @property
    def images(self) -> int:
        return len(self._own)

    @property
    def validation_images(self) -> int:
        return 0

    def feed(
        self,
        adapter: TrainableAdapter,
        precision: torch.dtype,
        generator: torch.Generator,
        epochs: int,
        cached: int | None,
    ) -> Feed:
        return self._feed


def cross_fitted_logits(
    loop: TrainingLoop, data: TrainingData, manifest: Manifest, folds: np.ndarray, listener: Listener
) -> Tensor:
    """Logits [N, classes] of the training images; `folds` [N] numbers the fold that each of them is kept out with.

    Each network is trained for as many epochs as the one that is kept, on the same schedule. The answers are those of
    its file, as on a server. Raises KeyboardInterrupt (Ctrl-C), and TrainingError for a loss that is not finite.
    """
    samples = data.samples("train")
    logits = torch.empty(len(samples), len(data.labels))
    count, started = int(folds.max()) + 1, time.monotonic()

    def heard(fold: int, progress: Progress) -> None:
        done = fold + (progress.epoch - 1 + progress.step / progress.steps) / loop.best_epoch
        left = (time.monotonic() - started) * (count - done) / done if done else None
        listener(
            replace(
                progress,
                epoch=fold * loop.best_epoch + progress.epoch,
                epochs=count * loop.best_epoch,
                done=None,
                phase="calibrating",
                seconds_left=None if left is None else round(left, 1),
            )
        )

    for fold in range(count):
        held = np.flatnonzero(folds == fold)
        tensors = _trained(loop, data, np.flatnonzero(folds != fold), partial(heard, fold))
        adapter = admit(dump_adapter(manifest, tensors, FILE_DTYPES[loop.config.file_dtype]), loop.backbone)
        own = [samples[index] for index in held]
        logits[held] = served_logits(adapter, loop.backbone, data.folder, own, network=loop.network)
    return logits


def _trained(loop: TrainingLoop, data: TrainingData, own: np.ndarray, listener: Listener) -> dict[str, Tensor]:
    """The tensors of a network that is trained as `loop` was, on these training images."""
    config = replace(
        loop.config,
        out=loop.config.out.with_name(f"{loop.config.out.name}.fold"),
        epochs=loop.epochs,
        patience=None,
        trunk="float",  # the feed has what the trunk gave
        precision=precision_name(loop.precision),
        resume=False,
    )
    fold = TrainingLoop(config, loop.backbone, Fold(config, data, loop.feed, torch.from_numpy(own)), [])
    try:
        fold.train_to(loop.best_epoch, listener)
    finally:
        checkpoint_path(config.out).unlink(missing_ok=True)
    return fold.adapter.stored(fold.best)
