"""Augmentation presets on whole uint8 batches: every image gets a geometry and colours of its own in one pass.

torchvision's v2 transforms draw one set of parameters for a batch; a loop over images would take a third of a training
step on one core. So geometry is one affine grid for each image and one `grid_sample`, colour is arithmetic, and all
randomness comes from the generator that is passed in: same generator state, same pictures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from lensmount_adapters.errors import TrainingError
from lensmount_adapters.inputs.images import orient


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What may happen to a training picture.

    `area`: share of the picture that a random crop keeps, drawn from [area, 1]; `aspect`: largest change of shape.
    `zoom`: scale factors about the centre (instead of a crop), `shift`: largest shift, as a share of the side.
    `orientations`: 1 (as it is), 2 (mirrored) or 8 (the square's four turns, each mirrored); `degrees`: further
    turning either way. `jitter`: brightness, contrast and saturation vary by this factor; `tint`: each colour
    channel alone. `erase`: probability of one grey rectangle of 2 to 20 % of the picture. `padding` fills what a turn
    or a shift uncovers: "reflection" or "zeros" (black).
    """

    area: float = 1.0
    aspect: float = 1.0
    zoom: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    orientations: int = 1
    degrees: float = 0.0
    jitter: float = 0.0
    tint: float = 0.0
    erase: float = 0.0
    padding: str = "reflection"


_MICROSCOPY = Augmentation(zoom=(0.85, 1.1), aspect=1.05, shift=0.08, orientations=8, jitter=0.25, tint=0.05)

PRESETS: Mapping[str, Augmentation] = MappingProxyType(
    {
        "none": Augmentation(),
        "photo": Augmentation(area=0.5, aspect=1.28, orientations=2, degrees=10, jitter=0.25, tint=0.05),
        "microscopy": _MICROSCOPY,
        "tissue": replace(_MICROSCOPY, area=0.4, tint=0.1),  # every part of a tile shows the class; stains vary
    }
)


def preset(name: str) -> Augmentation:
    """The preset of that name; raises TrainingError that lists them."""
    if name not in PRESETS:
        raise TrainingError(f"found augmentation {name!r}, expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


def augment(pixels: Tensor, rule: Augmentation, size: tuple[int, int], generator: Generator) -> Tensor:
    """uint8 [N, 3, h, w] to float32 [N, 3, *size] in [0, 1], each image changed in its own way.

    Channels behind the three colours are masks: they move with the picture and keep their values.
    The generator is a CPU generator whatever device the pixels are on: every device gets the same pictures.
    """
    draw = _Draws(len(pixels), pixels.device, generator)
    x = pixels.to(torch.float32) / 255
    x = _geometry(x, rule, size, draw)
    x, masks = x[:, :3], x[:, 3:]
    if rule.jitter or rule.tint:
        x = _colour(x, rule, draw)
    if rule.erase:
        x = _erase(x, rule.erase, draw)
    return torch.cat([x, masks], dim=1) if masks.shape[1] else x


def mix(x: Tensor, targets: Tensor, alpha: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """mixup (arXiv 1710.09412): pictures [N, ...] and soft targets [N, classes] blended with a shuffled batch."""
    if alpha <= 0:
        return x, targets
    share = _beta(alpha, generator)
    order = torch.randperm(len(x), generator=generator).to(x.device)
    return x.lerp(x[order], 1 - share), targets.lerp(targets[order], 1 - share)


def cut_mix(x: Tensor, targets: Tensor, alpha: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """CutMix (arXiv 1905.04899): a rectangle of each map [N, C, h, w] from a shuffled batch, targets by its area."""
    if alpha <= 0:
        return x, targets
    if x.ndim != 4:
        raise TrainingError(
            f"found activations of shape {list(x.shape[1:])} for --cutmix, expected maps [C, h, w]. Fix: --mixup"
        )
    height, width = x.shape[-2:]
    side = math.sqrt(1 - _beta(alpha, generator))
    h, w = round(side * height), round(side * width)
    top = int(torch.randint(0, height - h + 1, (), generator=generator))
    left = int(torch.randint(0, width - w + 1, (), generator=generator))
    order = torch.randperm(len(x), generator=generator).to(x.device)
    mixed = x.clone()
    mixed[..., top : top + h, left : left + w] = x[order][..., top : top + h, left : left + w]
    return mixed, targets.lerp(targets[order], h * w / (height * width))


@dataclass(frozen=True, slots=True)
class _Draws:
    """One number for each image of a batch."""

    n: int
    device: torch.device
    generator: Generator

    def uniform(self, low: float, high: float) -> Tensor:
        return (torch.rand(self.n, generator=self.generator) * (high - low) + low).to(self.device)  # [N]

    def factor(self, channels: int, spread: float) -> Tensor:
        drawn = torch.rand(self.n, channels, 1, 1, generator=self.generator)
        return (1 + (drawn * 2 - 1) * spread).to(self.device)  # [N, channels, 1, 1]

    def choice(self, count: int) -> Tensor:
        return torch.randint(0, count, (self.n,), generator=self.generator).to(self.device)  # [N]


def _geometry(x: Tensor, rule: Augmentation, size: tuple[int, int], draw: _Draws) -> Tensor:
    """Sample each image through its own affine map [N, 2, 3] from output to input coordinates in [-1, 1]."""
    if rule.orientations == 8:
        x = _orient_each(x, draw)
    stretch = draw.uniform(-1, 1).mul(math.log(rule.aspect) / 2).exp()
    scale = draw.uniform(*rule.zoom) * draw.uniform(rule.area, 1).sqrt()
    sx, sy = scale * stretch, scale / stretch
    crop = rule.area < 1  # a crop stays inside the picture
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
            f"found pictures of {x.shape[-2]} x {x.shape[-1]}, expected square ones for the eight orientations of "
            "--augment microscopy or tissue. Fix: choose --size N"
        )
    drawn = draw.choice(8)
    out = torch.empty_like(x)
    for orientation in range(8):
        chosen = drawn == orientation
        out[chosen] = orient(x[chosen], orientation)
    return out


def _colour(x: Tensor, rule: Augmentation, draw: _Draws) -> Tensor:
    """Brightness, contrast about the image's mean, saturation about its grey, then each channel alone."""
    x = x * draw.factor(1, rule.jitter)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = mean.lerp(x, draw.factor(1, rule.jitter))
    grey = x.mean(dim=1, keepdim=True)
    x = grey.lerp(x, draw.factor(1, rule.jitter))
    return (x * draw.factor(3, rule.tint)).clamp_(0, 1)


def _erase(x: Tensor, probability: float, draw: _Draws) -> Tensor:
    """One grey rectangle in some images (arXiv 1708.04896)."""
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
    """One draw from Beta(alpha, alpha) by Johnk's method, so that it comes from our generator."""
    while True:
        u, v = torch.rand(2, generator=generator).double().pow(1 / alpha).tolist()
        if 0 < u + v <= 1:
            return float(u / (u + v))
