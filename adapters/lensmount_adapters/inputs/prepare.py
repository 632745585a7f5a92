"""Apply an adapter's preprocessing rule to the bytes of an input: an image or a volume, as the rule's kind says."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lensmount_adapters.errors import ImageUnsupported
from lensmount_adapters.inputs.images import (
    IMAGE_SUFFIXES,
    ImageLimits,
    decode_image,
    preprocess,
    resize,
    stated_pixels,
)
from lensmount_adapters.inputs.limits import Stated, UpTo
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
    """Limits of an input, by its kind."""

    image: ImageLimits = field(default_factory=ImageLimits)
    volume: VolumeLimits = field(default_factory=VolumeLimits)


@dataclass(frozen=True, slots=True, eq=False)
class PreparedInput:
    """The backbone's input for each rule.

    `size` is the image's original width and height, after EXIF orientation. It is None for a volume.
    """

    inputs: dict[InputRule, Tensor]
    size: tuple[int, int] | None


def prepare(data: bytes, rules: Collection[InputRule], limits: InputLimits | None = None) -> PreparedInput:
    """Compute the backbone's input, float32, for each of the rules. The bytes are decoded only once.

    Rules for images give [3, height, width], rules for volumes [3, depth, height, width]. Raises ImageError.
    """
    limits = limits or InputLimits()
    volume_rules = [rule for rule in rules if isinstance(rule, VolumePreprocessing)]
    image_rules = [rule for rule in rules if not isinstance(rule, VolumePreprocessing)]
    prepared: dict[InputRule, Tensor] = {}
    size: tuple[int, int] | None = None
    if volume_rules:
        voxels = decode_volume(data, limits.volume)
        prepared |= {rule: preprocess_volume(voxels, rule) for rule in volume_rules}
    if image_rules:
        _refuse_volume(data)
        image = decode_image(data, limits.image)
        size = image.size
        prepared |= {rule: preprocess(image, rule) for rule in image_rules}
    return PreparedInput(prepared, size)


def prepare_small(data: bytes, rules: Collection[InputRule], limits: InputLimits, most: int) -> PreparedInput | int:
    """`prepare` for an image whose header states at most `most` pixels. Of a larger one, return how many it states."""
    try:
        return prepare(data, rules, InputLimits(UpTo.of(limits.image, most), limits.volume))
    except Stated as found:
        return found.pixels


def stated_size(data: bytes, limits: ImageLimits | None = None) -> int:
    """Return the number of pixels that an image's header states. Raises what `prepare` raises for its header."""
    _refuse_volume(data)
    return stated_pixels(data, limits)


def pixels_of(data: bytes, rule: InputRule, limits: ImageLimits | None = None) -> Tensor:
    """Return the pixels that training keeps, before normalisation. Raises ImageError.

    Images: uint8 [3, height, width]. Volumes: float32 in [0, 1], [1, depth, height, width], or [3, ...] in colour.
    """
    if isinstance(rule, VolumePreprocessing):
        return window_volume(decode_volume(data), rule)
    _refuse_volume(data)
    return torch.from_numpy(np.array(resize(decode_image(data, limits), rule))).permute(2, 0, 1)


def normalise(pixels: Tensor, rule: InputRule) -> Tensor:
    """Turn stacked `pixels_of`, [N, channels, ...], into the backbone's input, with the same bits as `prepare`."""
    x = pixels.to(torch.float32).div(255) if pixels.dtype is torch.uint8 else pixels
    ones = (1,) * (x.ndim - 2)
    mean = torch.tensor(rule.mean, device=x.device).view(3, *ones)
    std = torch.tensor(rule.std, device=x.device).view(3, *ones)
    return (x - mean) / std


def suffixes_of(rule: InputRule) -> tuple[str, ...]:
    """Return the file name suffixes of the rule's inputs."""
    return VOLUME_SUFFIXES if isinstance(rule, VolumePreprocessing) else IMAGE_SUFFIXES


def _refuse_volume(data: bytes) -> None:
    if is_volume(data):
        raise ImageUnsupported(
            "found a volume or a gzip file, expected an image: this adapter takes images. "
            "Fix: use an adapter on a volume backbone, or send one slice as PNG",
        )
