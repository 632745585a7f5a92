"""Masks of a recipe are compared with those of Otsu's threshold, and one row shows the means over seeds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lensmount_adapters.masks.file import Mask
from lensmount_adapters.recipe.masks import base_weights, mask_rows, otsu


class Drawn:
    """Images of a square on a ground, with the square as their mask; the first ones are for training."""

    labels = ("square",)

    def __init__(self, square: int, ground: int) -> None:
        square_at = np.zeros((1, 20, 20), bool)
        square_at[0, 5:15, 5:15] = True
        self.drawn = Mask(square_at)
        self.pixels = np.where(square_at[0], square, ground).astype(np.uint8)

    def image(self, sample: int) -> Image.Image:
        return Image.fromarray(self.pixels).convert("RGB")

    def mask(self, sample: int, size: tuple[int, int]) -> Mask:
        assert size == (20, 20)
        return self.drawn


@pytest.mark.parametrize(("square", "ground"), [(200, 30), (30, 200)], ids=["bright", "dark"])
def test_otsu_finds_the_bright_or_the_dark_side_whichever_fits_the_training_part(square: int, ground: int) -> None:
    pytest.importorskip("skimage")
    folder, parts = Drawn(square, ground), {"train": [0, 1], "test": [2]}
    task: Any = SimpleNamespace(folder=folder, samples=parts.__getitem__)

    found = otsu(task)

    assert (found.dice, found.iou, found.count) == (1.0, 1.0, 1)


def test_the_weights_of_a_base_lie_beside_its_adapter() -> None:
    assert base_weights(Path("out/base-nuclei-s0.safetensors")) == Path("out/base-nuclei-s0-weights.safetensors")


def test_a_row_has_the_means_over_the_seeds_and_leaves_blank_what_was_not_measured() -> None:
    def result(dice: float, **beside: Any) -> Any:
        metrics = {"count": 7, "dice": dice, "iou": dice / 2, "beside": beside}
        return SimpleNamespace(
            run="lora", metrics=metrics, trained_parameters=1234, share=0.05, file_bytes=2_000_000, seconds=12
        )

    *_, row = mask_rows([[result(0.5, otsu={"dice": 0.25}), result(1.0, otsu={"dice": 0.75})]])

    assert row == "| lora | 7 | 0.750 | 0.375 |  | 0.500 | 1,234 | 5.00 % | 2.00 MB | 12 s |"
