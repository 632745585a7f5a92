"""Turn a network's scores into masks of the image at its original size."""

from __future__ import annotations

import numpy as np
from PIL import Image
from torch import Tensor

from lensmount_adapters.inputs.images import inner_box
from lensmount_adapters.inputs.rules import Preprocessing


def masks_of(scores: Tensor, size: tuple[int, int], rule: Preprocessing, threshold: float) -> np.ndarray:
    """Masks, bool [labels, height, width], for an image of `size` (width, height).

    `scores` [labels, h, w] are those of the network's input. They are resized (bilinear) to the image before the
    threshold is applied, so outlines are finer than the input.
    """
    box = inner_box(size, rule)  # the part of the input that shows the image and not the border
    resized = [
        Image.fromarray(label).resize(size, Image.Resampling.BILINEAR, box=box) for label in scores.float().numpy()
    ]
    return np.stack([np.asarray(label) >= threshold for label in resized])
