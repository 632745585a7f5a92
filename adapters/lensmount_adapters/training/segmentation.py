"""Learn masks: pictures and masks that vary together, judged by Dice; the loss is Dice and cross-entropy, or MSE."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor
from torch.nn import functional as F

from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.data.mask_folder import MaskedImage, MaskFolder, digest_of_masked, read_mask_folder
from lensmount_adapters.data.split import Split, split_samples
from lensmount_adapters.inputs.images import resize
from lensmount_adapters.inputs.prepare import normalise
from lensmount_adapters.inputs.rules import Preprocessing
from lensmount_adapters.training.augment import Augmentation, augment
from lensmount_adapters.training.config import TrainingConfig, require
from lensmount_adapters.training.objective import Batch, Validated
from lensmount_adapters.training.schedule import EpochRecord
from lensmount_adapters.training.task import enlarged, preprocessing_of
from lensmount_adapters.training.trainable import TrainableAdapter
from lensmount_adapters.training.views import Tick

VALIDATION_BATCH = 8
SMOOTH = 1.0  # pixels: keeps the Dice loss defined where a mask is empty


@dataclass(frozen=True, slots=True, eq=False)
class MaskedPictures:
    """uint8 [N, 3 + labels, h, w]: a picture's colours, then its masks as 0 and 255."""

    pixels: Tensor
    rule: Augmentation
    preprocessing: Preprocessing

    def __len__(self) -> int:
        return len(self.pixels)

    def draw(self, indices: Tensor, generator: Generator, device: torch.device) -> tuple[Tensor, Tensor]:
        """Normalised input [n, 3, H, W] and its masks [n, labels, H, W] of 0 and 1, each pair varied in its own way."""
        pixels = self.pixels[indices].to(device)
        varied = pixels.float() / 255
        if self.rule != Augmentation():
            varied = augment(pixels, self.rule, self.preprocessing.size, generator)
        return normalise(varied[:, :3], self.preprocessing), (varied[:, 3:] >= 0.5).float()


@dataclass(frozen=True, slots=True, eq=False)
class MaskTask:
    """`read_mask_task(config, backbone)`: everything that a run reads, decoded once."""

    folder: MaskFolder
    split: Split
    train: MaskedPictures
    validation: MaskedPictures

    def samples(self, part: str) -> list[MaskedImage]:
        return [self.folder.samples[index] for index in self.split.parts()[part]]


def read_mask_task(config: TrainingConfig, backbone: Backbone) -> MaskTask:
    """Read, split and decode. Raises DatasetError, TrainingError."""
    flat = backbone.dense and isinstance(backbone.preprocessing, Preprocessing)
    require(flat, f"masks to learn on {backbone.name}", "a backbone that gives maps of pictures: monai_unet")
    require(config.resize != "crop", "resize crop for masks", "squash or pad")
    require(config.cache_trunk != "on", "cache-trunk on for masks", "auto or off")
    require(config.shots is None and not config.auto, "shots or auto for masks", "neither")
    folder = read_mask_folder(config.data, config.labels or ("mask",), config.where)
    digests = [sample.digest for sample in folder.samples]  # a copy stays with its original
    split = split_samples([0] * len(folder), digests, config.seed, config.validation_fraction, config.test_fraction)
    rule, augmentation = preprocessing_of(config, backbone), config.augmentation_rule()
    assert isinstance(rule, Preprocessing)
    assert isinstance(augmentation, Augmentation)
    train = [folder.samples[index] for index in split.train]
    validation = [folder.samples[index] for index in split.validation]
    larger = enlarged(rule, augmentation)
    assert isinstance(larger, Preprocessing)
    return MaskTask(
        folder,
        split,
        MaskedPictures(_pixels(folder, train, larger), augmentation, rule),
        MaskedPictures(_pixels(folder, validation, rule), Augmentation(), rule),
    )


class Segmentation:
    """A mask for each label; an epoch is judged by the mean Dice of the validation pictures, as the network sees them.

    `accuracy` of its records is the mean Dice as well.
    """

    def __init__(self, config: TrainingConfig, task: MaskTask) -> None:
        self.task = task
        self._config = config
        self._loss = LOSSES[config.loss or "dice-bce"]

    @property
    def labels(self) -> tuple[str, ...]:
        return self.task.folder.labels

    @property
    def preprocessing(self) -> Preprocessing:
        return self.task.train.preprocessing

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
        return self.task.train.draw(indices, Generator().manual_seed(0), device)[0]

    def feed(
        self, adapter: TrainableAdapter, precision: torch.dtype, generator: Generator, epochs: int, kept: int | None
    ) -> MaskedFeed:
        return MaskedFeed(self.task, adapter, precision, generator)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return self._loss(logits, batch.targets)

    def right(self, logits: Tensor, batch: Batch) -> float:
        return float(_dice(logits > 0, batch.truth > 0).mean(1).sum())

    def validate(self, logits: Tensor) -> Validated:
        _, masks = self.task.validation.draw(torch.arange(len(logits)), Generator(), logits.device)
        return Validated(float(self._loss(logits, masks)), float(_dice(logits > 0, masks > 0).mean()))

    def is_best(self, history: Sequence[EpochRecord]) -> bool:
        found = [r.validation_balanced_accuracy for r in history if r.validation_balanced_accuracy is not None]
        return not found or found[-1] >= max(found)

    def record(self) -> dict[str, Any]:
        config, folder = self._config, self.task.folder
        parts = {part: self.task.samples(part) for part in self.task.split.parts()}
        data = {"name": config.data.resolve().name, "digest": folder.digest, "images": len(folder)}
        return {
            "data": data | {"where": config.where},
            "split": {
                "seed": config.seed,
                "validation_fraction": config.validation_fraction,
                "test_fraction": config.test_fraction,
                "parts": {
                    part: {"images": len(samples), "digest": digest_of_masked(samples)}
                    for part, samples in parts.items()
                },
            },
        }


class MaskedFeed:
    """New pictures at every step: their masks vary with them, so nothing is kept behind a trunk."""

    kept = 0

    def __init__(self, task: MaskTask, adapter: TrainableAdapter, precision: torch.dtype, generator: Generator) -> None:
        self._task = task
        self._adapter = adapter
        self._precision = precision
        self._generator = generator

    def prepare(self, epoch: int, tick: Tick) -> None:
        """Nothing."""

    def batch(self, epoch: int, indices: Tensor) -> Batch:
        images, masks = self._task.train.draw(indices, self._generator, self._adapter.backbone.device)
        return Batch(self._adapter.activations(images, self._precision), masks, masks)

    def validation(self) -> Iterator[Tensor]:
        for indices in torch.split(torch.arange(len(self._task.validation)), VALIDATION_BATCH):
            images, _ = self._task.validation.draw(indices, self._generator, self._adapter.backbone.device)
            yield self._adapter.activations(images, self._precision)


def dice_bce(logits: Tensor, masks: Tensor) -> Tensor:
    """1 - soft Dice of each picture and label (V-Net, arXiv 1606.04797), plus the cross-entropy of each pixel."""
    scores = logits.sigmoid()
    both = (scores * masks).sum((2, 3))
    overlap = (2 * both + SMOOTH) / (scores.sum((2, 3)) + masks.sum((2, 3)) + SMOOTH)  # [N, labels]
    return 1 - overlap.mean() + F.binary_cross_entropy_with_logits(logits, masks)


def mean_squared(logits: Tensor, masks: Tensor) -> Tensor:
    """Of the scores, as the seed 'LoRA notes' trains."""
    return F.mse_loss(logits.sigmoid(), masks)


LOSSES = {"dice-bce": dice_bce, "mse": mean_squared}


def _dice(answer: Tensor, truth: Tensor) -> Tensor:
    """Dice [N, labels] of bool maps [N, labels, H, W]; 1 where both are empty."""
    both = (answer & truth).sum((2, 3))
    all_of_it = answer.sum((2, 3)) + truth.sum((2, 3))
    return torch.where(all_of_it > 0, 2 * both / all_of_it.clamp(min=1), 1.0)


def _pixels(folder: MaskFolder, samples: Sequence[MaskedImage], rule: Preprocessing) -> Tensor:
    """uint8 [N, 3 + labels, height, width]."""
    height, width = rule.size
    pixels = np.empty((len(samples), 3 + len(folder.labels), height, width), np.uint8)
    for row, sample in enumerate(samples):
        picture = folder.image(sample)
        pixels[row, :3] = np.asarray(resize(picture, rule)).transpose(2, 0, 1)
        for channel, mask in enumerate(folder.masks(sample, picture.size), start=3):
            pixels[row, channel] = np.asarray(resize(Image.fromarray(mask).convert("RGB"), rule))[..., 0]
    return torch.from_numpy(pixels)
