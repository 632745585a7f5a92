"""What a training run learns: its pictures, targets and loss, and how an epoch is judged. The loop is in loop.py.

| class | learns | head |
|---|---|---|
| `Classification` | one of the classes for a picture | linear, mlp, cosine |
| `Segmentation` (training/segmentation.py) | a mask for each label | segmentation |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from lensmount_adapters.data.dataset import digest_of_samples
from lensmount_adapters.inputs.rules import InputRule
from lensmount_adapters.metrics.classification import measure
from lensmount_adapters.training.augment import cut_mix, mix
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.schedule import EpochRecord, fit_temperature, is_best_so_far
from lensmount_adapters.training.task import TrainingData
from lensmount_adapters.training.trainable import TrainableAdapter
from lensmount_adapters.training.views import CachedViews, FreshViews, Pictures, Tick, Views, affordable_views

VALIDATION_BATCH = 64


@dataclass(frozen=True, slots=True)
class Validated:
    """How an epoch does on the validation part: a loss and a score in [0, 1], the higher the better."""

    loss: float
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What enters the branch [n, ...], what the loss compares with, and what it is right to answer (before mixing)."""

    activations: Tensor
    targets: Tensor
    truth: Tensor


class Feed(Protocol):
    """The batches of one run; `kept` views of each picture lie behind the trunk on disk, 0 for none."""

    @property
    def kept(self) -> int: ...

    def prepare(self, epoch: int, tick: Tick) -> None:
        """Whatever must be computed before the epoch's first batch; epochs count from 1."""

    def batch(self, epoch: int, indices: Tensor) -> Batch:
        """These training pictures, as this epoch sees them."""

    def validation(self) -> Iterator[Tensor]:
        """What enters the branch for the validation part, batch by batch in order."""


class Objective(Protocol):
    """What `Run` asks of a task. Logits and targets of a batch lie on the backbone's device."""

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def preprocessing(self) -> InputRule: ...

    @property
    def digest(self) -> str:
        """Of the data: a checkpoint is resumed on the same only."""

    @property
    def images(self) -> int:
        """To train on."""

    @property
    def validation_images(self) -> int: ...

    def sample(self, count: int, device: torch.device) -> Tensor:
        """The first training pictures as the backbone wants them [n, 3, H, W], varied alike at every call."""

    def feed(
        self, adapter: TrainableAdapter, precision: torch.dtype, generator: Generator, epochs: int, kept: int | None
    ) -> Feed:
        """The batches of a run of so many epochs; `kept` is what a run that is resumed kept."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor: ...

    def right(self, logits: Tensor, batch: Batch) -> float:
        """How many of the batch's pictures are answered rightly; a picture may count in part."""

    def validate(self, logits: Tensor) -> Validated:
        """Judge the logits of the whole validation part, in its order, on the CPU."""

    def is_best(self, history: Sequence[EpochRecord]) -> bool:
        """Whether the last epoch is to be kept."""

    def record(self) -> dict[str, Any]:
        """`data` and `split` of the training record."""


class Classification:
    """One class for each picture, learned from soft labels by cross-entropy and judged by balanced accuracy."""

    def __init__(self, config: TrainingConfig, task: TrainingData) -> None:
        self.task = task
        self._config = config
        self._class_weights = _class_weights(config, task)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.task.folder.classes

    @property
    def preprocessing(self) -> InputRule:
        return self.task.preprocessing

    @property
    def digest(self) -> str:
        return self.task.folder.digest

    @property
    def images(self) -> int:
        return len(self.task.train)

    @property
    def validation_images(self) -> int:
        return len(self.task.validation)

    def sample(self, count: int, device: torch.device) -> Tensor:
        indices = torch.arange(min(count, self.images))
        return self.task.train.draw(indices, Generator().manual_seed(0), device)

    def feed(
        self, adapter: TrainableAdapter, precision: torch.dtype, generator: Generator, epochs: int, kept: int | None
    ) -> LabelledFeed:
        config = self._config
        if kept is None:
            kept = affordable_views(
                config.cache_trunk, config.views, epochs, self.task.train, adapter, precision, config.out.parent
            )

        def views(pictures: Pictures, many: int, suffix: str) -> Views:
            if not kept or not len(pictures):
                return FreshViews(pictures, adapter, precision, generator)
            path = Path(f"{config.out}.{suffix}")
            return CachedViews(pictures, adapter, precision, many, config.seed, path)

        train, validation = views(self.task.train, kept, "views"), views(self.task.validation, 1, "validation")
        return LabelledFeed(self.task, config, generator, kept, train, validation, adapter.backbone.device)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        smoothing = self._config.label_smoothing
        return F.cross_entropy(logits, batch.targets, self._class_weights.to(logits.device), label_smoothing=smoothing)

    def right(self, logits: Tensor, batch: Batch) -> int:
        return int((logits.argmax(1) == batch.truth).sum())

    def validate(self, logits: Tensor) -> Validated:
        labels = self.task.validation_labels
        scores = (logits / fit_temperature(logits, labels)).softmax(1)
        metrics = measure(labels, scores, self.labels)
        return Validated(metrics.log_loss, metrics.balanced_accuracy)

    def is_best(self, history: Sequence[EpochRecord]) -> bool:
        return is_best_so_far(history, self.validation_images)

    def record(self) -> dict[str, Any]:
        config, folder = self._config, self.task.folder
        parts = {part: self.task.samples(part) for part in self.task.split.parts()}
        return {
            "data": {
                "name": config.data.resolve().name,
                "digest": folder.digest,
                "images": len(folder),
                "classes": folder.counts(),
            },
            "split": {
                "seed": config.seed,
                "validation_fraction": config.validation_fraction,
                "test_fraction": config.test_fraction,
                "group_regex": config.group_regex,
                "groups": len({sample.group for sample in folder.samples}),
                "shots": config.shots,
                "parts": {
                    part: {
                        "images": len(samples),
                        "groups": len({sample.group for sample in samples}),
                        "classes": {
                            name: sum(sample.label == index for sample in samples)
                            for index, name in enumerate(folder.classes)
                        },
                        "digest": digest_of_samples(samples),
                    }
                    for part, samples in parts.items()
                },
            },
        }


class LabelledFeed:
    """Pictures with one label each, mixed within the batch where the config asks for it."""

    def __init__(
        self,
        task: TrainingData,
        config: TrainingConfig,
        generator: Generator,
        kept: int,
        train: Views,
        validation: Views,
        device: torch.device,
    ) -> None:
        self.kept = kept
        self._task = task
        self._config = config
        self._generator = generator
        self._train = train
        self._validation = validation
        self._device = device

    def prepare(self, epoch: int, tick: Tick) -> None:
        self._train.prepare(epoch, tick)

    def batch(self, epoch: int, indices: Tensor) -> Batch:
        x = self._train.batch(epoch, indices)
        labels = self._task.train_labels[indices].to(self._device)
        soft = F.one_hot(labels, len(self._task.folder.classes)).float()  # [N, classes]
        x, soft = mix(x, soft, self._config.mixup, self._generator)
        x, soft = cut_mix(x, soft, self._config.cutmix, self._generator)
        return Batch(x, soft, labels)

    def validation(self) -> Iterator[Tensor]:
        self._validation.prepare(1, lambda done, total: None)
        for indices in torch.split(torch.arange(len(self._task.validation)), VALIDATION_BATCH):
            yield self._validation.batch(1, indices)


def _class_weights(config: TrainingConfig, task: TrainingData) -> Tensor:
    """[classes], mean 1 over the training images: every class weighs the same in the loss, however rare."""
    classes = len(task.folder.classes)
    if config.class_weights == "none":
        return torch.ones(classes)
    counts = Counter(task.train_labels.tolist())
    return torch.tensor([len(task.train_labels) / (classes * counts[index]) for index in range(classes)])
