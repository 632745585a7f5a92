"""Segmentation: images and masks augmented together, a loss of Dice and cross-entropy (or MSE), mean Dice as score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor
from torch.nn import functional as F

from lensmount_adapters.augmentation.images import Augmentation, augment
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.data.split import Split, split_stated
from lensmount_adapters.inputs.images import resize
from lensmount_adapters.inputs.limits import ImageLimits
from lensmount_adapters.inputs.prepare import normalise
from lensmount_adapters.inputs.rules import Preprocessing
from lensmount_adapters.inputs.upload import upload
from lensmount_adapters.masks.folder import MaskedImage, MaskFolder, digest_of_masked, read_mask_folder
from lensmount_adapters.masks.report import check_masks
from lensmount_adapters.training.config import TrainingConfig, require
from lensmount_adapters.training.objective import Batch, DataObjective, Validated
from lensmount_adapters.training.schedule import EpochRecord
from lensmount_adapters.training.trainable import TrainableAdapter
from lensmount_adapters.training.training_data import enlarged, preprocessing_of
from lensmount_adapters.training.views import OnProgress

VALIDATION_BATCH = 8
IGNORED = -1.0  # in masks of training: the pixel has no class, no gradient and no part in any figure
SMOOTH = 1.0  # pixels; keeps the Dice loss defined for an empty mask


@dataclass(frozen=True, slots=True, eq=False)
class MaskedTrainingImages:
    """uint8 [N, 3 + labels + 1, h, w]: the colours of each image, its masks as 0 and 255, and what is ignored."""

    pixels: Tensor
    rule: Augmentation
    preprocessing: Preprocessing

    def __len__(self) -> int:
        return len(self.pixels)

    def draw(self, indices: Tensor, generator: Generator, device: torch.device) -> tuple[Tensor, Tensor]:
        """Normalised input [n, 3, H, W] and its masks [n, labels, H, W], each pair varied independently.

        The masks have 0, 1, and IGNORED where a pixel counts as nothing.
        """
        pixels = upload(self.pixels[indices], device)
        varied = pixels.float() / 255
        if self.rule != Augmentation():
            varied = augment(pixels, self.rule, self.preprocessing.size, generator)
        *masks, ignored = (varied[:, 3:] >= 0.5).unbind(1)
        return normalise(varied[:, :3], self.preprocessing), torch.where(
            ignored[:, None], IGNORED, torch.stack(masks, 1).float()
        )


@dataclass(frozen=True, slots=True, eq=False)
class MaskTask:
    """Everything that a run reads, decoded once. `read_mask_task(config, backbone)` creates it.

    `folder.notes` are sentences for the user, on its files and on what its masks show.
    """

    folder: MaskFolder
    split: Split
    train: MaskedTrainingImages
    validation: MaskedTrainingImages

    @property
    def labels(self) -> tuple[str, ...]:
        return self.folder.labels

    @property
    def preprocessing(self) -> Preprocessing:
        return self.train.preprocessing

    @property
    def digest(self) -> str:
        return self.folder.digest

    def samples(self, part: str) -> list[MaskedImage]:
        return [self.folder.samples[index] for index in self.split.parts()[part]]


def read_mask_task(config: TrainingConfig, backbone: Backbone) -> MaskTask:
    """Read the images and masks, check every mask, split them and decode them. Raises DatasetError, TrainingError."""
    fits = backbone.dense and isinstance(backbone.preprocessing, Preprocessing)
    require(fits, f"{backbone.name} for masks", "a backbone that returns feature maps of images, such as monai_unet")
    require(config.resize != "crop", "resize crop for masks", "squash or pad")
    require(config.cache_trunk != "on", "cache-trunk on for masks", "auto or off")
    require(config.shots is None and not config.auto, "shots or auto for masks", "neither")
    limits = ImageLimits(config.max_image_bytes, config.max_pixels)
    folder = read_mask_folder(config.data, config.labels or ("mask",), config.where, limits)
    folder = replace(folder, notes=(*folder.notes, *check_masks(folder)))
    digests = [sample.digest for sample in folder.samples]  # duplicates of an image stay in one split
    parts, fractions = folder.parts(), (config.validation_fraction, config.test_fraction)
    split = split_stated([0] * len(folder), digests, parts, ("images",), config.seed, *fractions)
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
        MaskedTrainingImages(_pixels(folder, train, larger), augmentation, rule),
        MaskedTrainingImages(_pixels(folder, validation, rule), Augmentation(), rule),
    )


class Segmentation(DataObjective[MaskTask]):
    """One mask per label. The score of an epoch is the mean Dice of the validation images, as the network sees them.

    `accuracy` in its records is the mean Dice as well.
    """

    def __init__(self, config: TrainingConfig, data: MaskTask) -> None:
        super().__init__(config, data)
        self._loss = LOSSES[config.loss or "dice-bce"]

    def sample(self, count: int, device: torch.device) -> Tensor:
        indices = torch.arange(min(count, self.images))
        return self.data.train.draw(indices, Generator().manual_seed(0), device)[0]

    def feed(
        self, adapter: TrainableAdapter, precision: torch.dtype, generator: Generator, epochs: int, cached: int | None
    ) -> MaskedFeed:
        return MaskedFeed(self.data, adapter, precision, generator)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return self._loss(logits, batch.targets)

    def correct(self, logits: Tensor, batch: Batch) -> float:
        return float(_dice(logits, batch.truth).mean(1).sum())

    def validate(self, logits: Tensor) -> Validated:
        _, masks = self.data.validation.draw(torch.arange(len(logits)), Generator(), logits.device)
        return Validated(float(self._loss(logits, masks)), float(_dice(logits, masks).mean()))

    def is_best(self, history: Sequence[EpochRecord]) -> bool:
        scores = [r.validation_balanced_accuracy for r in history if r.validation_balanced_accuracy is not None]
        return not scores or scores[-1] >= max(scores)

    def record(self) -> dict[str, Any]:
        config, folder = self.config, self.data.folder
        parts = {part: self.data.samples(part) for part in self.data.split.parts()}
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
    """Batches of newly augmented images. Masks are augmented with their images, so no activations are cached."""

    cached_views = 0

    def __init__(self, task: MaskTask, adapter: TrainableAdapter, precision: torch.dtype, generator: Generator) -> None:
        self._task = task
        self._adapter = adapter
        self._precision = precision
        self._generator = generator

    def prepare(self, epoch: int, on_progress: OnProgress) -> None:
        """Nothing to prepare: every batch is computed when it is used."""

    def batch(self, epoch: int, indices: Tensor) -> Batch:
        images, masks = self._task.train.draw(indices, self._generator, self._adapter.backbone.device)
        return Batch(self._adapter.activations(images, self._precision), masks, masks)

    def validation(self) -> Iterator[Tensor]:
        for indices in torch.split(torch.arange(len(self._task.validation)), VALIDATION_BATCH):
            images, _ = self._task.validation.draw(indices, self._generator, self._adapter.backbone.device)
            yield self._adapter.activations(images, self._precision)


def dice_bce(logits: Tensor, masks: Tensor) -> Tensor:
    """1 - soft Dice per image and label (V-Net, arXiv 1606.04797), plus the cross-entropy per pixel."""
    counted, masks = _counted(masks)
    scores = logits.sigmoid() * counted
    both = (scores * masks).sum((2, 3))
    overlap = (2 * both + SMOOTH) / (scores.sum((2, 3)) + masks.sum((2, 3)) + SMOOTH)  # [N, labels]
    entropy = F.binary_cross_entropy_with_logits(logits, masks, counted, reduction="sum")
    return 1 - overlap.mean() + entropy / counted.sum().clamp(min=1)


def mean_squared(logits: Tensor, masks: Tensor) -> Tensor:
    """The mean squared error of the scores, as in the seed 'LoRA notes'."""
    counted, masks = _counted(masks)
    return F.mse_loss(logits.sigmoid() * counted, masks, reduction="sum") / counted.sum().clamp(min=1)


def _counted(masks: Tensor) -> tuple[Tensor, Tensor]:
    """1 for each pixel that counts and 0 for an ignored one; and the masks with 0 there. Both [N, labels, H, W]."""
    return (masks != IGNORED).to(masks.dtype), masks.clamp(min=0)


LOSSES = {"dice-bce": dice_bce, "mse": mean_squared}


def _dice(logits: Tensor, masks: Tensor) -> Tensor:
    """Dice [N, labels] of the pixels that count; 1 if both are empty."""
    truth, predicted = masks > 0, (logits > 0) & (masks != IGNORED)
    both = (predicted & truth).sum((2, 3))
    sizes = predicted.sum((2, 3)) + truth.sum((2, 3))
    return torch.where(sizes > 0, 2 * both / sizes.clamp(min=1), 1.0)


def _pixels(folder: MaskFolder, samples: Sequence[MaskedImage], rule: Preprocessing) -> Tensor:
    """uint8 [N, 3 + labels + 1, height, width]."""
    height, width = rule.size
    pixels = np.zeros((len(samples), 3 + len(folder.labels) + 1, height, width), np.uint8)
    for row, sample in enumerate(samples):
        image = folder.image(sample)
        pixels[row, :3] = np.asarray(resize(image, rule)).transpose(2, 0, 1)
        truth = folder.mask(sample, image.size)
        maps = [*truth.labels] if truth.ignored is None else [*truth.labels, truth.ignored]
        for channel, mask in enumerate(maps, start=3):
            pixels[row, channel] = np.asarray(resize(Image.fromarray(mask).convert("RGB"), rule))[..., 0]
    return torch.from_numpy(pixels)
