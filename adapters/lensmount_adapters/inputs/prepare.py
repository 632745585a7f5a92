"""From the bytes of an input to what an adapter's rule makes of it: an image or a volume, as the rule's kind says."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lensmount_adapters.errors import ImageUnsupported
from lensmount_adapters.inputs.images import IMAGE_SUFFIXES, ImageLimits, decode_image, preprocess, resize
from lensmount_adapters.inputs.rules import InputRule, VolumePreprocessing
from lensmount_adapters.inputs.volumes import SUFFIXES as VOLUME_SUFFIXES
from lensmount_adapters.inputs.volumes import (
    VolumeLimits,
    decode_volume,
    is_volume,
    preprocess_volume,
    window_volume,
)


@dataclass(frozen=True, slots=True)
class InputLimits:
    """What an input may not exceed, by its kind."""

    image: ImageLimits = field(default_factory=ImageLimits)
    volume: VolumeLimits = field(default_factory=VolumeLimits)


@dataclass(frozen=True, slots=True, eq=False)
class PreparedInput:
    """The backbone's input by each rule; `size` is a picture's own width and height, after EXIF turning."""

    inputs: dict[InputRule, Tensor]
    size: tuple[int, int] | None


def prepare(data: bytes, rules: Collection[InputRule], limits: InputLimits | None = None) -> PreparedInput:
    """The backbone's input by each of the rules, float32; decoded once, whatever their number.

    [3, height, width] by a rule of images, [3, depth, height, width] by one of volumes. Raises an ImageError.
    """
    limits = limits or InputLimits()
    of_volumes = [rule for rule in rules if isinstance(rule, VolumePreprocessing)]
    of_images = [rule for rule in rules if not isinstance(rule, VolumePreprocessing)]
    prepared: dict[InputRule, Tensor] = {}
    size: tuple[int, int] | None = None
    if of_volumes:
        voxels = decode_volume(data, limits.volume)
        prepared |= {rule: preprocess_volume(voxels, rule) for rule in of_volumes}
    if of_images:
        _refuse_volume(data)
        image = decode_image(data, limits.image)
        size = image.size
        prepared |= {rule: preprocess(image, rule) for rule in of_images}
    return PreparedInput(prepared, size)


def pixels_of(data: bytes, rule: InputRule) -> Tensor:
    """What training keeps, before normalisation. Raises an ImageError.

    Images: uint8 [3, height, width]. Volumes: float32 in [0, 1], [1, depth, height, width], of colour [3, ...].
    """
    if isinstance(rule, VolumePreprocessing):
        return window_volume(decode_volume(data), rule)
    _refuse_volume(data)
    return torch.from_numpy(np.array(resize(decode_image(data), rule))).permute(2, 0, 1)


def normalise(pixels: Tensor, rule: InputRule) -> Tensor:
    """`pixels_of` many inputs, [N, channels, ...], to the backbone's input, the same bits as `prepare` gives."""
    x = pixels.to(torch.float32).div(255) if pixels.dtype is torch.uint8 else pixels
    ones = (1,) * (x.ndim - 2)
    mean = torch.tensor(rule.mean, device=x.device).view(3, *ones)
    std = torch.tensor(rule.std, device=x.device).view(3, *ones)
    return (x - mean) / std


def suffixes_of(rule: InputRule) -> tuple[str, ...]:
    """How the names of the rule's inputs end, in folders of them."""
    return VOLUME_SUFFIXES if isinstance(rule, VolumePreprocessing) else IMAGE_SUFFIXES


def _refuse_volume(data: bytes) -> None:
    if is_volume(data):
        raise ImageUnsupported(
            "found a volume or a gzip file, expected an image: this adapter is of images. "
            "Fix: an adapter on a backbone of volumes, or one slice as PNG",
        )
