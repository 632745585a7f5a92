"""Masks as run lengths, areas, PNG and polygons, on masks that are drawn by hand."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("skimage", reason='needs scikit-image: pip install "lensmount[serve]"')

from skimage.draw import polygon2mask

from lensmount_service.web.masks import Masks, areas, as_geojson, as_png, run_lengths


def masks_of(*pixels: np.ndarray) -> Masks:
    return Masks(tuple(f"label{i}" for i in range(len(pixels))), np.stack(pixels))


def test_run_lengths_begin_with_zeros_and_go_down_the_columns() -> None:
    mask = np.array([[1, 0, 0], [1, 1, 0]], bool)
    assert run_lengths(mask) == [0, 2, 1, 1, 2]
    assert run_lengths(np.zeros((2, 3), bool)) == [6]
    assert run_lengths(np.ones((2, 3), bool)) == [0, 6]


def test_regions_also_connect_by_corners() -> None:
    assert areas(np.array([[1, 0, 0, 1], [0, 1, 0, 1]], bool)) == [2, 2]
    assert areas(np.zeros((3, 3), bool)) == []


def test_the_first_label_wins_where_masks_overlap() -> None:
    first, second = np.array([[1, 1, 0, 0]], bool), np.array([[0, 1, 1, 0]], bool)
    image = Image.open(io.BytesIO(as_png(masks_of(first, second))))
    assert image.mode == "P"
    assert np.array_equal(np.array(image), [[1, 1, 2, 0]])


def test_filled_polygons_equal_the_mask_except_at_corners() -> None:
    rows, columns = np.mgrid[:40, :50]
    ring = ((rows - 18) ** 2 + (columns - 20) ** 2 < 15**2) & ((rows - 18) ** 2 + (columns - 20) ** 2 > 6**2)
    corner = (rows > 34) & (columns > 44)
    features = json.loads(as_geojson(masks_of(ring | corner)))["features"]
    assert [len(feature["geometry"]["coordinates"]) for feature in features] == [2, 1]  # the ring has a hole
    filled = np.zeros((40, 50), bool)
    for feature in features:
        for line in feature["geometry"]["coordinates"]:
            assert line[0] == line[-1]
            filled ^= polygon2mask((40, 50), [(y - 0.5, x - 0.5) for x, y in line])
    assert (filled != (ring | corner)).mean() < 0.01
