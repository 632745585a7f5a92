"""The input of the branch: the trunk's output for augmented images, computed at each step, or once and kept on disk.

The trunk never changes, so an augmented view of an image has the same activations in every epoch. If a few views of
each image are kept in a memory-mapped file, every later epoch costs only the branch. The price is disk space (views x
images x activation), and the augmentation repeats after that many epochs.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Generator, Tensor

from lensmount_adapters.augmentation.images import Augmentation, augment
from lensmount_adapters.augmentation.volumes import VolumeAugmentation, augment_volumes
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.inputs.prepare import normalise
from lensmount_adapters.inputs.rules import InputRule
from lensmount_adapters.inputs.upload import upload
from lensmount_adapters.training.trainable import TrainableAdapter

OnProgress = Callable[[int, int], None]  # images done, images in total
FILL_BATCH = 16  # small enough for the caches: the augmentation takes 1.1 instead of 2.3 ms per image
MAX_SHARE_OF_DISK = 0.5  # of the free space


class Views(Protocol):
    """Activations at the cut [n, ...] for the images of one part of the split."""

    def prepare(self, epoch: int, on_progress: OnProgress) -> None:
        """Compute what the epoch needs before its first batch. Epochs count from 1."""

    def batch(self, epoch: int, indices: Tensor) -> Tensor:
        """The activations of these images, as this epoch sees them."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingImages:
    """Decoded images, how they are varied, and how the backbone takes them.

    `pixels` are images, uint8 [N, 3, h, w], or volumes, float32 [N, 1 or 3, d, h, w].
    """

    pixels: Tensor
    rule: Augmentation | VolumeAugmentation
    preprocessing: InputRule

    def __len__(self) -> int:
        return len(self.pixels)

    def draw(self, indices: Tensor, generator: Generator, device: torch.device) -> Tensor:
        """Normalised input [n, 3, height, width], or [n, 3, depth, ...], each image varied independently."""
        pixels = upload(self.pixels[indices], device)
        if isinstance(self.rule, VolumeAugmentation):
            pixels = augment_volumes(pixels, self.rule, generator)
        elif self.rule != Augmentation():
            pixels = augment(pixels, self.rule, self.preprocessing.size, generator)
        return normalise(pixels, self.preprocessing)


class FreshViews:
    """Newly augmented images at every step, passed through the trunk each time."""

    def __init__(
        self, images: TrainingImages, adapter: TrainableAdapter, precision: torch.dtype, generator: Generator
    ) -> None:
        self._images = images
        self._adapter = adapter
        self._precision = precision
        self._generator = generator

    def prepare(self, epoch: int, on_progress: OnProgress) -> None:
        """Nothing to prepare: every batch is computed when it is used."""

    def batch(self, epoch: int, indices: Tensor) -> Tensor:
        inputs = self._images.draw(indices, self._generator, self._adapter.backbone.device)
        return self._adapter.activations(inputs, self._precision)


class CachedViews:
    """The trunk's output for `views` variants of each image, in a file that exists as long as this object.

    Epoch e sees view `(e - 1) % views`, which is computed on first use. Each view has its own random generator, so that
    a resumed run computes the same bits.
    """

    def __init__(
        self,
        images: TrainingImages,
        adapter: TrainableAdapter,
        precision: torch.dtype,
        views: int,
        seed: int,
        path: Path,
    ) -> None:
        self._images = images
        self._adapter = adapter
        self._precision = precision
        self._views = views
        self._seed = seed
        shape = activation_shape(images, adapter, precision)
        self._stored = torch.from_file(
            str(path), shared=True, size=views * len(images) * math.prod(shape), dtype=precision
        ).view(views, len(images), *shape)
        path.unlink()  # the mapping keeps the data, and nothing is left on disk however the process ends
        self._filled: set[int] = set()

    @property
    def nbytes(self) -> int:
        """Size of the file."""
        return self._stored.numel() * self._stored.element_size()

    def prepare(self, epoch: int, on_progress: OnProgress) -> None:
        view = (epoch - 1) % self._views
        if view in self._filled:
            return
        generator = Generator().manual_seed((self._seed * 1009 + view) % 2**63)
        for indices in torch.split(torch.arange(len(self._images)), FILL_BATCH):
            inputs = self._images.draw(indices, generator, self._adapter.backbone.device)
            self._stored[view, indices] = _channels_last(self._adapter.activations(inputs, self._precision)).cpu()
            on_progress(int(indices[-1]) + 1, len(self._images))
        self._filled.add(view)

    def batch(self, epoch: int, indices: Tensor) -> Tensor:
        rows = self._stored[(epoch - 1) % self._views][indices]
        return _channels_first(upload(rows, self._adapter.backbone.device))


def activation_shape(images: TrainingImages, adapter: TrainableAdapter, precision: torch.dtype) -> tuple[int, ...]:
    """The shape of one image's activations at the cut, channels last."""
    first = images.draw(torch.tensor([0]), Generator(), adapter.backbone.device)
    return tuple(_channels_last(adapter.activations(first, precision)).shape[1:])


def affordable_views(
    asked: str,
    views: int,
    epochs: int,
    images: TrainingImages,
    adapter: TrainableAdapter,
    precision: torch.dtype,
    at: Path,
) -> int:
    """The number of views to keep on disk; 0 for none. `asked` is auto, on or off; `at` is the folder of the file.

    "auto" keeps views if all of this is true: an epoch would see a view again; the activations take no more bytes than
    the float32 image (after the stem alone they take more, and hardly any time is saved); the file takes at most half
    of the free disk space. Raises TrainingError if "on" is impossible.
    """
    if asked == "off" or adapter.trunk is None:
        if asked == "on":
            raise TrainingError(
                f"found --cache-trunk on, but the first layer of {adapter.backbone.name} is trained, so there is no "
                "trunk to cache. Fix: choose later --targets, or omit --cache-trunk"
            )
        return 0
    bytes_per_view = math.prod(activation_shape(images, adapter, precision)) * precision.itemsize
    bytes_per_image = math.prod(images.preprocessing.input_shape) * torch.float32.itemsize
    if asked == "auto" and (epochs <= views or bytes_per_view > bytes_per_image):
        return 0
    size = views * len(images) * bytes_per_view
    free = shutil.disk_usage(at).free
    if size <= MAX_SHARE_OF_DISK * free:
        return views
    if asked == "on":
        raise TrainingError(
            f"found {free / 1e9:.1f} GB free in {at}, expected {size / MAX_SHARE_OF_DISK / 1e9:.1f} GB for "
            f"--cache-trunk on with {views} views. Fix: use fewer --views, or free space"
        )
    return 0


def _channels_last(activations: Tensor) -> Tensor:
    """[n, C, (d,) h, w] to [n, (d,) h, w, C], the memory order of channels_last; other shapes are unchanged."""
    return activations.movedim(1, -1) if activations.ndim in (4, 5) else activations


def _channels_first(rows: Tensor) -> Tensor:
    return rows.movedim(-1, 1) if rows.ndim in (4, 5) else rows
