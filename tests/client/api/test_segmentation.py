"""Masks as run lengths become rows of pixels and an overlay."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from lensmount_client import InvalidInput
from lensmount_client._api.segmentation import OPACITY, Mask, Segmentation
from lensmount_client._types.results import AdapterId, Backbone

PIXELS = [[0, 0, 255], [0, 255, 255]]  # by column: 0 0 | 0 1 | 1 1
CELL, EMPTY = Mask("cell", (3, 3), 3, 1, (3,)), Mask("debris", (6,), 0, 0, ())


def segmentation(image: bytes = b"") -> Segmentation:
    adapter, backbone = AdapterId("nuclei", 1, "sha256:00"), Backbone("unet", "sha256:11")
    return Segmentation((2, 3), (CELL, EMPTY), adapter, backbone, "r-1", {}, image)


def test_run_lengths_go_down_the_columns_and_begin_with_the_background() -> None:
    assert [list(row) for row in segmentation().mask("cell")] == PIXELS
    assert [list(row) for row in segmentation().mask()] == PIXELS  # the first mask
    assert [list(row) for row in segmentation().mask("debris")] == [[0, 0, 0]] * 2


def test_a_label_without_a_mask_is_refused_with_the_labels_that_have_one() -> None:
    with pytest.raises(InvalidInput, match="found 'nucleus', expected one of cell, debris"):
        segmentation().mask("nucleus")


def test_the_overlay_colours_the_pixels_of_the_mask_alone(tmp_path: Path) -> None:
    images = pytest.importorskip("PIL.Image")
    buffer = io.BytesIO()
    images.new("RGB", (3, 2), (100, 100, 100)).save(buffer, "PNG")

    seen = images.open(segmentation(buffer.getvalue()).overlay(tmp_path / "seen.png"))

    for row, values in enumerate(PIXELS):
        for column, value in enumerate(values):
            red, green, blue = seen.getpixel((column, row))
            if value:  # the first colour is (255, 82, 82)
                assert abs(red - (100 + OPACITY * 155)) <= 1
                assert green == blue == pytest.approx(100 - OPACITY * 18, abs=1)
            else:
                assert (red, green, blue) == (100, 100, 100)
