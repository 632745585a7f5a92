"""The objective of a training run: its images, targets and loss, and the score of an epoch. The loop is in loop.py.

| class | learns | head |
|---|---|---|
| `Classification` | one class per image | linear, mlp, cosine |
| `Segmentation` (training/segmentation.py) | one mask per label | segmentation |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from lensmount_adapters.augmentation.images import cut_mix, mix
from lensmount_adapters.data.dataset import digest_of_samples
from lensmount_adapters.inputs.rules import InputRule
from lensmount_adapters.inputs.upload import upload
from lensmount_adapters.metrics.classification import measure
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.schedule import EpochRecord, is_best_so_far
from lensmount_adapters.training.trainable import TrainableAdapter
from lensmount_adapters.training.training_data import TrainingData
from lensmount_adapters.training.views import (
    CachedViews,
    FreshViews,
    OnProgress,
    TrainingImages,
    Views,
    affordable_views,
)
from lensmount_adapters.trust.scaling import fit_temperature

VALIDATION_BATCH = 64


@dataclass(frozen=True, slots=True)
class Validated:
    """The result of an epoch on the validation part: a loss, and a score in [0, 1] (higher is better)."""

    loss: float
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Activations at the cut [n, ...], targets for the loss (mixed), and the true labels or masks (before mixing)."""

    activations: Tensor
    targets: Tensor
    truth: Tensor


class Feed(Protocol):
    """The batches of one run."""

    @property
    def cached_views(self) -> int:
        """The number of views per image whose activations are kept on disk; 0 if none are."""

    def prepare(self, epoch: int, on_progress: OnProgress) -> None:
        """Compute what the epoch needs before its first batch. Epochs count from 1."""

    def batch(self, epoch: int, indices: Tensor) -> Batch:
        """These training images, as this epoch sees them."""

    def validation(self) -> Iterator[Tensor]:
        """Activations at the cut for the validation part, batch by batch in order."""


class Objective(Protocol):
    """What `TrainingLoop` needs of a task. The logits and targets of a batch are on the backbone's device."""

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def preprocessing(self) -> InputRule: ...

    @property
    def digest(self) -> str:
        """Digest of the data. A checkpoint can only be resumed on the same data."""

    @property
    def images(self) -> int:
        """The number of training images."""

    @property
    def validation_images(self) -> int: ...

    def sample(self, count: int, device: torch.device) -> Tensor:
        """The first training images as input of the backbone [n, 3, H, W], augmented in the same way at every call."""

    def feed(
        self, adapter: TrainableAdapter, precision: torch.dtype, generator: Generator, epochs: int, cached: int | None
    ) -> Feed:
        """The batches of a run of `epochs` epochs. `cached` is the number of cached views of a run that is resumed."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor: ...

    def correct(self, logits: Tensor, batch: Batch) -> float:
        """The number of correct predictions in the batch. An image may count partially."""

    def validate(self, logits: Tensor) -> Validated:
        """Evaluate the logits of the whole validation part, in its order, on the CPU."""

    def is_best(self, history: Sequence[EpochRecord]) -> bool:
        """Whether to keep the last epoch."""

    def record(self) -> dict[str, Any]:
        """`data` and `split` of the training record."""


class ObjectiveData(Protocol):
    """What every objective needs of its data, which are decoded once."""

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def preprocessing(self) -> InputRule: ...

    @property
    def digest(self) -> str: ...

    @property
    def train(self) -> Sized: ...

    @property
    def validation(self) -> Sized: ...


Data = TypeVar("Data", bound=ObjectiveData)


class DataObjective(Generic[Data]):
    """The part of an objective that follows from its data."""

    def __init__(self, config: TrainingConfig, data: Data) -> None:
        self.config = config
        self.data = data

    @property
    def labels(self) -> tuple[str, ...]:
        return self.data.labels

    @property
    def preprocessing(self) -> InputRule:
        return self.data.preprocessing

    @property
    def digest(self) -> str:
        return self.data.digest

    @property
    def images(self) -> int:
        return len(self.data.train)

    @property
    def validation_images(self) -> int:
        return len(self.data.validation)


class Classification(DataObjective[TrainingData]):
    """One class per image, learned from soft labels by cross-entropy and validated by balanced accuracy."""

    def __init__(self, config: TrainingConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self._class_weights = _class_weights(config, data)

    def sample(self, count: int, device: torch.device) -> Tensor:
        indices = torch.arange(min(count, self.images))
        return self.data.train.draw(indices, Generator().manual_seed(0), device)

    def feed(
        self, adapter: TrainableAdapter, precision: torch.dtype, generator: Generator, epochs: int, cached: int | None
    ) -> Feed:
        config = self.config
        if cached is None:
            cached = affordable_views(
                config.cache_trunk, config.views, epochs, self.data.train, adapter, precision, config.out.parent
            )

        def views(images: TrainingImages, count: int, suffix: str) -> Views:
            if not cached or not len(images):
                return FreshViews(images, adapter, precision, generator)
            path = Path(f"{config.out}.{suffix}")
            return CachedViews(images, adapter, precision, count, config.seed, path)

        train, validation = views(self.data.train, cached, "views"), views(self.data.validation, 1, "validation")
        return LabelledFeed(self.data, config, generator, cached, train, validation, adapter.backbone.device)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        smoothing = self.config.label_smoothing
        return F.cross_entropy(logits, batch.targets, self._class_weights.to(logits.device), label_smoothing=smoothing)

    def correct(self, logits: Tensor, batch: Batch) -> int:
        return int((logits.argmax(1) == batch.truth).sum())

    def validate(self, logits: Tensor) -> Validated:
        labels = self.data.validation_labels
        scores = (logits / fit_temperature(logits, labels)).softmax(1)
        metrics = measure(labels, scores, self.labels)
        return Validated(metrics.log_loss, metrics.balanced_accuracy)

    def is_best(self, history: Sequence[EpochRecord]) -> bool:
        return is_best_so_far(history, self.validation_images)

    def record(self) -> dict[str, Any]:
        config, folder = self.config, self.data.folder
        parts = {part: self.data.samples(part) for part in self.data.split.parts()}
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
                "class_depth": config.class_depth,
                "max_image_bytes": config.max_image_bytes,
                "max_pixels": config.max_pixels,
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
    """Batches of images with one label each, mixed by mixup and CutMix if the config says so."""

    def __init__(
        self,
        data: TrainingData,
        config: TrainingConfig,
        generator: Generator,
        cached_views: int,
        train: Views,
        validation: Views,
        device: torch.device,
    ) -> None:
        self.cached_views = cached_views
        self._data = data
        self._config = config
        self._generator = generator
        self._train = train
        self._validation = validation
        self._device = device

    def prepare(self, epoch: int, on_progress: OnProgress) -> None:
        self._train.prepare(epoch, on_progress)

    def batch(self, epoch: int, indices: Tensor) -> Batch:
        x = self._train.batch(epoch, indices)
        labels = upload(self._data.train_labels[indices], self._device)
        soft = F.one_hot(labels, len(self._data.folder.classes)).float()  # [N, classes]
        x, soft = mix(x, soft, self._config.mixup, self._generator)
        x, soft = cut_mix(x, soft, self._config.cutmix, self._generator)
        return Batch(x, soft, labels)

    def validation(self) -> Iterator[Tensor]:
        self._validation.prepare(1, lambda done, total: None)
        for indices in torch.split(torch.arange(len(self._data.validation)), VALIDATION_BATCH):
            yield self._validation.batch(1, indices)


def _class_weights(config: TrainingConfig, data: TrainingData) -> Tensor:
    """Weights [classes] with mean 1 over the training images: every class counts the same in the loss, however rare."""
    classes = len(data.folder.classes)
    if config.class_weights == "none":
        return torch.ones(classes)
    counts = Counter(data.train_labels.tolist())
    return torch.tensor([len(data.train_labels) / (classes * counts[index]) for index in range(classes)])
