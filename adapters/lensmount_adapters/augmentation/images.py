"""Augmentation presets for uint8 batches: one pass gives every image its own random geometry and colours.

torchvision's v2 transforms draw one set of parameters per batch, and a loop over images would take a third of a
training step on one core. So geometry is one affine grid per image and one `grid_sample`, and colour is arithmetic. All
randomness comes from the generator that is passed in: the same generator state gives the same images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from lensmount_adapters.augmentation.degrade import degrade
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.inputs.images import orient
from lensmount_adapters.inputs.upload import upload


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How training images are varied.

    `area`: a random crop keeps a share of the image drawn from [area, 1]. `aspect`: largest change of aspect ratio.
    `zoom`: range of scale factors about the centre (instead of a crop). `shift`: largest shift, as a share of the side.
    `orientations`: 1 (unchanged), 2 (mirrored) or 8 (the square's four rotations, each mirrored). `degrees`: further
    rotation in either direction. `jitter`: brightness, contrast and saturation vary by this factor. `tint`: each colour
    channel varies by this factor on its own. `hue`: largest turn of the colour circle in degrees. `erase`: probability
    of one grey rectangle of 2 to 20 % of the image. `degrade`: probability of a smaller image, compressed as JPEG
    (degrade.py). `padding`: what fills the areas that a rotation or a shift uncovers, "reflection" or "zeros" (black).
    """

    area: float = 1.0
    aspect: float = 1.0
    zoom: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    orientations: int = 1
    degrees: float = 0.0
    jitter: float = 0.0
    tint: float = 0.0
    hue: float = 0.0
    erase: float = 0.0
    degrade: float = 0.0
    padding: str = "reflection"


_MICROSCOPY = Augmentation(zoom=(0.85, 1.1), aspect=1.05, shift=0.08, orientations=8, jitter=0.25, tint=0.05)

_PLAIN = {
    "photo": Augmentation(area=0.5, aspect=1.28, orientations=2, degrees=10, jitter=0.25, tint=0.05),
    "microscopy": _MICROSCOPY,
    "tissue": replace(_MICROSCOPY, area=0.4, tint=0.1),  # every part of a tile shows the class, and stains vary
}

PRESETS: Mapping[str, Augmentation] = MappingProxyType(
    {
        "none": Augmentation(),
        **_PLAIN,
        **{f"{name}-robust": replace(rule, jitter=0.4, hue=20, degrade=0.5) for name, rule in _PLAIN.items()},
    }
)


def preset(name: str) -> Augmentation:
    """The preset of that name. Raises a TrainingError that lists the names if there is none."""
    if name not in PRESETS:
        raise TrainingError(f"found augmentation {name!r}, expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


def augment(pixels: Tensor, rule: Augmentation, size: tuple[int, int], generator: Generator) -> Tensor:
    """uint8 [N, 3, h, w] to float32 [N, 3, *size] in [0, 1], each image varied independently.

    Channels after the three colours are masks: they get the geometry of their image, but not its colour changes.
    The generator is on the CPU whatever device the pixels are on, so every device gets the same images.
    """
    draw = _Draws(len(pixels), pixels.device, generator)
    if rule.degrade:
        pixels = degrade(pixels, rule.degrade, generator)
    x = pixels.to(torch.float32) / 255
    x = _geometry(x, rule, size, draw)
    x, masks = x[:, :3], x[:, 3:]
    if rule.hue:
        x = _turn_hue(x, rule.hue, draw)
    if rule.jitter or rule.tint:
        x = _colour(x, rule, draw)
    if rule.erase:
        x = _erase(x, rule.erase, draw)
    return torch.cat([x, masks], dim=1) if masks.shape[1] else x


def mix(x: Tensor, targets: Tensor, alpha: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """mixup (arXiv 1710.09412): images [N, ...] and soft targets [N, classes] blended with the shuffled batch."""
    if alpha <= 0:
        return x, targets
    share = _beta(alpha, generator)
    order = upload(torch.randperm(len(x), generator=generator), x.device)
    return x.lerp(x[order], 1 - share), targets.lerp(targets[order], 1 - share)


def cut_mix(x: Tensor, targets: Tensor, alpha: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """CutMix (arXiv 1905.04899): paste a rectangle of the shuffled batch into the maps [N, C, h, w].

    Targets are mixed by the rectangle's area. Raises TrainingError for activations that are not maps.
    """
    if alpha <= 0:
        return x, targets
    if x.ndim != 4:
        raise TrainingError(
            f"found activations of shape {list(x.shape[1:])} for --cutmix, expected maps [C, h, w]. Fix: use --mixup"
        )
    height, width = x.shape[-2:]
    side = math.sqrt(1 - _beta(alpha, generator))
    h, w = round(side * height), round(side * width)
    top = int(torch.randint(0, height - h + 1, (), generator=generator))
    left = int(torch.randint(0, width - w + 1, (), generator=generator))
    order = upload(torch.randperm(len(x), generator=generator), x.device)
    mixed = x.clone()
    mixed[..., top : top + h, left : left + w] = x[order][..., top : top + h, left : left + w]
    return mixed, targets.lerp(targets[order], h * w / (height * width))


@dataclass(frozen=True, slots=True)
class _Draws:
    """Draw random numbers for a batch, one per image."""

    n: int
    device: torch.device
    generator: Generator

    def uniform(self, low: float, high: float) -> Tensor:
        return upload(torch.rand(self.n, generator=self.generator) * (high - low) + low, self.device)  # [N]

    def factor(self, channels: int, spread: float) -> Tensor:
        drawn = torch.rand(self.n, channels, 1, 1, generator=self.generator)
        return upload(1 + (drawn * 2 - 1) * spread, self.device)  # [N, channels, 1, 1]

    def choice(self, count: int) -> Tensor:
        """On the host, where it is read."""
        return torch.randint(0, count, (self.n,), generator=self.generator)  # [N]


def _geometry(x: Tensor, rule: Augmentation, size: tuple[int, int], draw: _Draws) -> Tensor:
    """Sample each image through its own affine map [N, 2, 3] from output to input coordinates in [-1, 1]."""
    if rule.orientations == 8:
        x = _orient_each(x, draw)
    stretch = draw.uniform(-1, 1).mul(math.log(rule.aspect) / 2).exp()
    scale = draw.uniform(*rule.zoom) * draw.uniform(rule.area, 1).sqrt()
    sx, sy = scale * stretch, scale / stretch
    crop = rule.area < 1  # a crop stays inside the image
    if crop:
        sx, sy = sx.clamp(max=1), sy.clamp(max=1)
    tx = draw.uniform(-1, 1) * (rule.shift + (1 - sx) * crop)
    ty = draw.uniform(-1, 1) * (rule.shift + (1 - sy) * crop)
    if rule.orientations == 2:
        sx = torch.where(draw.uniform(0, 1) < 0.5, -sx, sx)
    angle = draw.uniform(-1, 1) * math.radians(rule.degrees)
    cos, sin = angle.cos(), angle.sin()
    rows = torch.stack([sx * cos, -sy * sin, tx, sx * sin, sy * cos, ty], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(rows, [len(x), 3, *size], align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode=rule.padding, align_corners=False)


def _orient_each(x: Tensor, draw: _Draws) -> Tensor:
    if x.shape[-1] != x.shape[-2]:
        raise TrainingError(
            f"found images of {x.shape[-2]} x {x.shape[-1]} pixels, expected square images for the eight orientations "
            "of --augment microscopy or tissue. Fix: choose --size N"
        )
    drawn = draw.choice(8)
    out = torch.empty_like(x)
    for orientation in range(8):
        rows = upload(torch.nonzero(drawn == orientation).flatten(), x.device)  # a mask on a GPU would wait for it
        out[rows] = orient(x[rows], orientation)
    return out


def _colour(x: Tensor, rule: Augmentation, draw: _Draws) -> Tensor:
    """Vary brightness, contrast about the image's mean, saturation about its grey values, then each channel alone."""
    x = x * draw.factor(1, rule.jitter)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = mean.lerp(x, draw.factor(1, rule.jitter))
    grey = x.mean(dim=1, keepdim=True)
    x = grey.lerp(x, draw.factor(1, rule.jitter))
    return (x * draw.factor(3, rule.tint)).clamp_(0, 1)


def _turn_hue(x: Tensor, degrees: float, draw: _Draws) -> Tensor:
    """Turn the colours [N, 3, H, W] of each image about the grey axis of the RGB cube (Rodrigues' formula)."""
    angle = (draw.uniform(-1, 1) * math.radians(degrees)).view(-1, 1, 1)
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]], device=x.device) / math.sqrt(3)
    turn = torch.eye(3, device=x.device) * angle.cos() + cross * angle.sin() + (1 - angle.cos()) / 3  # [N, 3, 3]
    return torch.einsum("nij,njhw->nihw", turn, x).clamp_(0, 1)


def _erase(x: Tensor, probability: float, draw: _Draws) -> Tensor:
    """Cover one rectangle of some images with grey (arXiv 1708.04896)."""
    height, width = x.shape[-2:]
    hit = draw.uniform(0, 1) < probability
    side = (draw.uniform(0.02, 0.2) * height * width).sqrt()
    stretch = draw.uniform(-1, 1).exp().sqrt()
    h, w = side * stretch, side / stretch
    top = draw.uniform(0, 1) * (height - h).clamp(min=0)
    left = draw.uniform(0, 1) * (width - w).clamp(min=0)
    rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    in_rows = (rows >= top[:, None]) & (rows < (top + h)[:, None])  # [N, H]
    in_columns = (columns >= left[:, None]) & (columns < (left + w)[:, None])  # [N, W]
    covered = in_rows[:, None, :, None] & in_columns[:, None, None, :] & hit[:, None, None, None]
    return x.masked_fill(covered, 0.5)


def _beta(alpha: float, generator: Generator) -> float:
    """One draw from Beta(alpha, alpha). torch's own Beta takes no generator.

    Up to 1 by Johnk's method, in logarithms: for a small alpha the powers themselves are all 0, and no draw would do.
    Above 1 by NumPy, because Johnk's method refuses more draws the larger alpha is: at 10, all but one of 180,000.
    """
    if alpha > 1:
        seed = int(torch.randint(2**62, (), generator=generator))
        return float(np.random.default_rng(seed).beta(alpha, alpha))
    while True:
        u, v = torch.rand(2, generator=generator).double().log().div(alpha).tolist()
        both = float(np.logaddexp(u, v))
        if -math.inf < both <= 0:
            return math.exp(u - both)
