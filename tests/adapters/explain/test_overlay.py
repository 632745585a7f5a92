"""The drawing colours what speaks for the label, where it is in the image, and nothing else."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from lensmount_adapters import Preprocessing
from lensmount_adapters.explain.overlay import overlay

MEAN = (0.5, 0.5, 0.5)
GREY = (120, 120, 120)


def rule(resize: str, size: tuple[int, int] = (64, 64), crop_fraction: float = 1.0) -> Preprocessing:
    return Preprocessing.model_validate(
        {"size": size, "resize": resize, "crop_fraction": crop_fraction, "mean": MEAN, "std": MEAN}
    )


def drawn(size: tuple[int, int], values: np.ndarray, how: Preprocessing) -> np.ndarray:
    """How far each pixel is from the grey of the image."""
    png = Image.open(io.BytesIO(overlay(Image.new("RGB", size, GREY), values, how)))
    assert png.format == "PNG"
    change: np.ndarray = np.abs(np.asarray(png.convert("RGB"), int) - GREY).sum(-1)
    return change


def spot(row: int, column: int, cells: int = 4) -> np.ndarray:
    values = np.zeros((cells, cells), np.float32)
    values[row, column] = 3.5
    return values


def centre_of(change: np.ndarray) -> tuple[float, float]:
    rows, columns = np.indices(change.shape)
    return float((rows * change).sum() / change.sum()), float((columns * change).sum() / change.sum())


def test_the_colour_lies_where_the_cell_lies() -> None:
    change = drawn((80, 40), spot(1, 2), rule("squash"))

    assert change.shape == (40, 80)
    assert centre_of(change) == pytest.approx((14.5, 49.5), abs=0.6)  # the middle of row 1 of 4 and column 2 of 4


def test_a_cropped_input_leaves_the_border_of_the_image_clear() -> None:
    change = drawn((200, 100), np.ones((4, 4), np.float32), rule("crop", crop_fraction=0.5))

    rows, columns = np.nonzero(change)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (25, 74, 75, 124)


def test_a_padded_input_lays_its_border_outside_of_the_image() -> None:
    # the image fills rows 16 to 47 of the 64 of the input, so cell 1 of 4 is its upper half
    change = drawn((128, 64), np.repeat(np.array([[9.0], [1], [0], [9]], np.float32), 4, axis=1), rule("pad"))

    assert change.shape == (64, 128)
    assert change[0].min() > change[16].max() > change[40].max()


def test_what_speaks_against_the_label_stays_clear() -> None:
    assert drawn((64, 64), -np.ones((4, 4), np.float32), rule("squash")).max() == 0
    assert drawn((64, 64), np.zeros((1, 1), np.float32), rule("squash")).max() == 0


def test_a_large_image_is_drawn_smaller() -> None:
    change = drawn((4096, 1000), spot(0, 0), rule("squash"))

    assert change.shape == (250, 1024)
    assert centre_of(change)[1] < 256


def test_the_scale_of_the_values_does_not_matter() -> None:
    image, values = Image.new("RGB", (50, 50), GREY), np.random.default_rng(0).random((5, 5))

    assert overlay(image, values, rule("squash")) == overlay(image, 1e-3 * values, rule("squash"))
