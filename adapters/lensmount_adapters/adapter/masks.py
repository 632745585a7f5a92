"""From a network's scores to masks of the picture as it was sent, and how well masks match: Dice and IoU."""

from __future__ import annotations

import numpy as np
from PIL import Image
from torch import Tensor

from lensmount_adapters.inputs.images import inner_box
from lensmount_adapters.inputs.rules import Preprocessing


def masks_of(scores: Tensor, size: tuple[int, int], rule: Preprocessing, threshold: float) -> np.ndarray:
    """bool [labels, height, width] of a picture of `size` (width, height), from scores [labels, h, w] of its input.

    The scores are resized (bilinear) to the picture before they are compared, so an outline is finer than the input.
    """
    box = inner_box(size, rule)  # what of the input is picture, and not border
    whole = [
        Image.fromarray(label).resize(size, Image.Resampling.BILINEAR, box=box) for label in scores.float().numpy()
    ]
    return np.stack([np.asarray(label) >= threshold for label in whole])
