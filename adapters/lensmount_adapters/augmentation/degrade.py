"""Images as cheap cameras, messengers and thumbnails leave them: scaled down, and compressed as JPEG.

Networks learn from sharp images that fine detail decides, and lose it first (arXiv 1604.04004). One image in a batch
that was made worse in this way teaches that it may be missing.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor

SMALLEST = 0.3  # of the side of an image, before it is scaled back
QUALITIES = (10, 90)  # of JPEG


def degrade(pixels: Tensor, probability: float, generator: Generator) -> Tensor:
    """Return uint8 [N, C, h, w] in which some images were scaled down, compressed, and scaled back.

    Each image is changed with this probability: its sides are multiplied by a share drawn from [SMALLEST, 1], its JPEG
    quality is drawn from QUALITIES. Channels after the three colours are masks and stay as they are.
    """
    draws = torch.rand(len(pixels), 3, generator=generator).tolist()
    out = pixels.clone()
    for row, (hit, scale, quality) in enumerate(draws):
        if hit < probability:
            share = SMALLEST + (1 - SMALLEST) * scale
            worse = _degraded(
                pixels[row, :3].cpu(), share, round(QUALITIES[0] + (QUALITIES[1] - QUALITIES[0]) * quality)
            )
            out[row, :3] = worse.to(pixels.device)
    return out


def _degraded(pixels: Tensor, share: float, quality: int) -> Tensor:
    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    width, height = image.size
    small = image.resize((max(1, round(width * share)), max(1, round(height * share))), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    small.save(file, "jpeg", quality=quality)
    with Image.open(file) as read:
        large = read.resize((width, height), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(large)).permute(2, 0, 1)
