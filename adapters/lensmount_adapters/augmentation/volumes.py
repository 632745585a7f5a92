"""Augmentation presets for volumes: they keep the slices in order and vary each volume of a batch independently.

The presets have the names of those for images (images.py), so that one word works for both: "photo" for volumes with a
fixed orientation, "microscopy" for volumes without one. Randomness comes from the generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Generator, Tensor

from lensmount_adapters.errors import TrainingError
from lensmount_adapters.inputs.upload import upload


@dataclass(frozen=True, slots=True)
class VolumeAugmentation:
    """How training volumes are varied. One mirror reverses the handedness of a volume; two mirrors keep it.

    `flip_depth`, `flip_height`, `flip_width`: probabilities of mirroring the axis. `quarter_turns`: rotate all slices
    of a volume alike; they must be square. `jitter`: brightness and contrast vary by this factor.
    """

    flip_depth: float = 0.0
    flip_height: float = 0.0
    flip_width: float = 0.0
    quarter_turns: bool = False
    jitter: float = 0.0


PRESETS: Mapping[str, VolumeAugmentation] = MappingProxyType(
    {
        "none": VolumeAugmentation(),
        "photo": VolumeAugmentation(flip_width=0.5, jitter=0.1),
        "microscopy": VolumeAugmentation(flip_height=0.5, flip_width=0.5, quarter_turns=True, jitter=0.1),
    }
)


def volume_preset(name: str) -> VolumeAugmentation:
    """The preset of that name. Raises a TrainingError that lists the names if there is none."""
    if name not in PRESETS:
        raise TrainingError(f"found augmentation {name!r}, expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


def augment_volumes(volumes: Tensor, rule: VolumeAugmentation, generator: Generator) -> Tensor:
    """Vary each volume of float32 [N, channels, depth, height, width] in [0, 1] independently.

    The generator is on the CPU whatever device the volumes are on. Raises TrainingError for quarter turns of slices
    that are not square.
    """
    x = volumes
    for axis, probability in ((2, rule.flip_depth), (3, rule.flip_height), (4, rule.flip_width)):
        if probability:
            hit = _uniform(len(x), generator, x.device) < probability
            x = torch.where(hit, x.flip(axis), x)
    if rule.quarter_turns:
        x = _rotate_each(x, generator)
    if rule.jitter:
        contrast, brightness = (1 + (2 * _uniform(len(x), generator, x.device) - 1) * rule.jitter for _ in range(2))
        mean = x.mean(dim=(1, 2, 3, 4), keepdim=True)
        x = (mean.lerp(x, contrast) * brightness).clamp(0, 1)
    return x


def _uniform(count: int, generator: Generator, device: torch.device) -> Tensor:
    """One number in [0, 1) per volume, [N, 1, 1, 1, 1]."""
    return upload(torch.rand(count, generator=generator), device).view(-1, 1, 1, 1, 1)


def _rotate_each(x: Tensor, generator: Generator) -> Tensor:
    if x.shape[-1] != x.shape[-2]:
        raise TrainingError(
            f"found slices of {x.shape[-2]} x {x.shape[-1]}, expected square slices for quarter turns. "
            "Fix: choose --size N, or another --augment"
        )
    turns = torch.randint(0, 4, (len(x),), generator=generator).tolist()
    return torch.stack([torch.rot90(volume, turn, (-2, -1)) for volume, turn in zip(x, turns, strict=True)])
