"""What the branch trains on: augmented pictures behind the trunk, computed for each step, or once and kept on disk.

The trunk never changes, so an augmented view of a picture has the same activations in every epoch. A few views of each
picture, kept in a memory-mapped file, make every later epoch cost the branch alone. The price is disk (views x images x
activation) and that augmentation repeats after that many epochs.
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

from lensmount_adapters.errors import TrainingError
from lensmount_adapters.inputs.prepare import normalise
from lensmount_adapters.inputs.rules import InputRule
from lensmount_adapters.training.augment import Augmentation, augment
from lensmount_adapters.training.augment_volumes import VolumeAugmentation, augment_volumes
from lensmount_adapters.training.trainable import TrainableAdapter

Tick = Callable[[int, int], None]  # images done, images in all
FILL_BATCH = 16  # small enough for the caches: 1.1 against 2.3 ms an image for the augmentation alone
MAX_SHARE_OF_DISK = 0.5  # of what is free


class Views(Protocol):
    """Activations at the cut [n, ...] of the pictures of one part of the split."""

    def prepare(self, epoch: int, tick: Tick) -> None:
        """Whatever must be computed before the epoch's first batch; epochs count from 1."""

    def batch(self, epoch: int, indices: Tensor) -> Tensor:
        """The activations of these pictures, as this epoch sees them."""


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Decoded pictures, how they vary, and how the backbone wants them.

    uint8 [N, 3, h, w], or volumes, float32 [N, 1 or 3, d, h, w].
    """

    pixels: Tensor
    rule: Augmentation | VolumeAugmentation
    preprocessing: InputRule

    def __len__(self) -> int:
        return len(self.pixels)

    def draw(self, indices: Tensor, generator: Generator, device: torch.device) -> Tensor:
        """Normalised input [n, 3, height, width], or [n, 3, depth, ...], each one varied in its own way."""
        pixels = self.pixels[indices].to(device)
        if isinstance(self.rule, VolumeAugmentation):
            pixels = augment_volumes(pixels, self.rule, generator)
        elif self.rule != Augmentation():
            pixels = augment(pixels, self.rule, self.preprocessing.size, generator)
        return normalise(pixels, self.preprocessing)


class FreshViews:
    """New pictures at every step, through the trunk each time."""

    def __init__(
        self, pictures: Pictures, adapter: TrainableAdapter, precision: torch.dtype, generator: Generator
    ) -> None:
        self._pictures = pictures
        self._adapter = adapter
        self._precision = precision
        self._generator = generator

    def prepare(self, epoch: int, tick: Tick) -> None:
        """Nothing: every batch is computed when it is asked for."""

    def batch(self, epoch: int, indices: Tensor) -> Tensor:
        images = self._pictures.draw(indices, self._generator, self._adapter.backbone.device)
        return self._adapter.activations(images, self._precision)


class CachedViews:
    """`views` variants of each picture behind the trunk, in a file that lives as long as this object.

    Epoch e sees view `(e - 1) % views`, which is filled when it is first asked for; view v is drawn from a generator of
    its own, so that a resumed run fills it with the same bits.
    """

    def __init__(
        self,
        pictures: Pictures,
        adapter: TrainableAdapter,
        precision: torch.dtype,
        views: int,
        seed: int,
        path: Path,
    ) -> None:
        self._pictures = pictures
        self._adapter = adapter
        self._precision = precision
        self._views = views
        self._seed = seed
        shape = activation_shape(pictures, adapter, precision)
        self._stored = torch.from_file(
            str(path), shared=True, size=views * len(pictures) * math.prod(shape), dtype=precision
        ).view(views, len(pictures), *shape)
        path.unlink()  # the mapping keeps it: nothing is left over however the process ends
        self._filled: set[int] = set()

    @property
    def nbytes(self) -> int:
        return self._stored.numel() * self._stored.element_size()

    def prepare(self, epoch: int, tick: Tick) -> None:
        view = (epoch - 1) % self._views
        if view in self._filled:
            return
        generator = Generator().manual_seed((self._seed * 1009 + view) % 2**63)
        for indices in torch.split(torch.arange(len(self._pictures)), FILL_BATCH):
            images = self._pictures.draw(indices, generator, self._adapter.backbone.device)
            self._stored[view, indices] = _channels_last(self._adapter.activations(images, self._precision)).cpu()
            tick(int(indices[-1]) + 1, len(self._pictures))
        self._filled.add(view)

    def batch(self, epoch: int, indices: Tensor) -> Tensor:
        rows = self._stored[(epoch - 1) % self._views][indices]
        return _channels_first(rows.to(self._adapter.backbone.device))


def activation_shape(pictures: Pictures, adapter: TrainableAdapter, precision: torch.dtype) -> tuple[int, ...]:
    """The shape of one picture's activations at the cut, channels last."""
    one = pictures.draw(torch.tensor([0]), Generator(), adapter.backbone.device)
    return tuple(_channels_last(adapter.activations(one, precision)).shape[1:])


def affordable_views(
    asked: str, views: int, epochs: int, pictures: Pictures, adapter: TrainableAdapter, precision: torch.dtype, at: Path
) -> int:
    """How many views to keep; 0 for none. `asked` is auto, on or off; `at` the folder that would hold the file.

    "auto" keeps views where some epoch would see one again, where the activations take no more bytes than the float32
    picture (behind a stem alone they take more, and hardly anything is saved), and where the file takes at most half of
    the free disk. Raises TrainingError where "on" is impossible.
    """
    if asked == "off" or adapter.trunk is None:
        if asked == "on":
            raise TrainingError(
                f"found --cache-trunk on, but the first layer of {adapter.backbone.name} is trained: no trunk is "
                "frozen. Fix: choose later --targets, or leave --cache-trunk out"
            )
        return 0
    one = math.prod(activation_shape(pictures, adapter, precision)) * precision.itemsize
    picture = math.prod(pictures.preprocessing.input_shape) * torch.float32.itemsize
    if asked == "auto" and (epochs <= views or one > picture):
        return 0
    size = views * len(pictures) * one
    free = shutil.disk_usage(at).free
    if size <= MAX_SHARE_OF_DISK * free:
        return views
    if asked == "on":
        raise TrainingError(
            f"found {free / 1e9:.1f} GB free in {at}, expected {size / MAX_SHARE_OF_DISK / 1e9:.1f} GB for "
            f"--cache-trunk on with {views} views. Fix: fewer --views, or free space"
        )
    return 0


def _channels_last(activations: Tensor) -> Tensor:
    """[n, C, (d,) h, w] to [n, (d,) h, w, C], how channels_last lies in memory; other shapes as they are."""
    return activations.movedim(1, -1) if activations.ndim in (4, 5) else activations


def _channels_first(rows: Tensor) -> Tensor:
    return rows.movedim(-1, 1) if rows.ndim in (4, 5) else rows
