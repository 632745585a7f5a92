"""Scores become masks of the image at its own size, without the border that padding added."""

from __future__ import annotations

import numpy as np
import torch

from lensmount_adapters import Preprocessing
from lensmount_adapters.adapter.masks import masks_of

RULE = Preprocessing(size=(16, 16), mean=(0.5,) * 3, std=(0.5,) * 3)


def test_a_score_at_the_threshold_is_inside() -> None:
    row = [0.5, 0.49, 1.0, 0.0] * 4

    masks = masks_of(torch.tensor([[row] * 16]), (16, 16), RULE, 0.5)

    assert masks.dtype == bool
    assert masks.tolist() == [[[True, False, True, False] * 4] * 16]


def test_each_label_has_a_mask_of_the_image_s_size_with_a_fine_outline() -> None:
    """The left 3 of 16 columns are inside. In an image of 32 columns the outline lies between the columns 5 and 6."""
    left = torch.tensor([[1.0] * 3 + [0.0] * 13] * 16)

    masks = masks_of(torch.stack([left, 1 - left]), (32, 20), RULE, 0.5)

    assert masks.shape == (2, 20, 32)
    assert masks[0].tolist() == [[True] * 6 + [False] * 26] * 20
    assert np.array_equal(masks[1], ~masks[0])


def test_the_border_of_a_padded_image_is_cut_off() -> None:
    """An image of 16 x 8 lies in the rows 4 to 11 of the input; the rows around it are black border."""
    scores = torch.zeros(1, 16, 16)
    scores[:, 4:12] = 1

    masks = masks_of(scores, (16, 8), RULE.model_copy(update={"resize": "pad"}), 0.9)

    assert masks.tolist() == [[[True] * 16] * 8]
