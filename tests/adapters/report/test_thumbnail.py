"""Small images inside a page: thumbnails of files, and heat maps with one pixel per cell."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
import pytest
from PIL import Image

from lensmount_adapters.report.thumbnail import ACCENT, heat_map, thumbnail


def shown(uri: str | None, kind: str) -> Image.Image:
    """The image of a data URI."""
    assert uri is not None
    head, _, body = uri.partition(",")
    assert head == f"data:image/{kind};base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


def saved(size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(("size", "small"), [((400, 200), (128, 64)), ((100, 640), (20, 128)), ((50, 60), (50, 60))])
def test_a_thumbnail_keeps_the_shape_and_is_never_enlarged(size: tuple[int, int], small: tuple[int, int]) -> None:
    image = shown(thumbnail(saved(size)), "jpeg")

    assert image.size == small
    assert np.abs(np.array(image).astype(int) - (200, 30, 30)).max() < 6


@pytest.mark.parametrize("data", [b"", b"not an image", saved((64, 64))[:-40]])
def test_what_cannot_be_decoded_has_no_thumbnail(data: bytes) -> None:
    assert thumbnail(data) is None


def test_the_shade_of_a_cell_is_the_root_of_its_share() -> None:
    image = shown(heat_map(np.array([[0.0, 0.25], [1.0, 0.04]])), "png")

    assert image.size == (2, 2)
    opacity = np.array(image.convert("RGBA"))[..., 3]
    assert opacity.tolist() == [[0, round(0.5 * 255)], [255, round(math.sqrt(0.04) * 255)]]
    assert np.array(image.convert("RGBA"))[1, 0, :3].tolist() == list(ACCENT)


def test_a_large_matrix_shows_the_highest_share_of_each_block() -> None:
    """600 rows and 300 columns become blocks of 3 x 3 cells; a single cell still shows."""
    shares = np.zeros((600, 300))
    shares[4, 7] = 1.0

    image = shown(heat_map(shares), "png")

    assert image.size == (100, 200)
    opacity = np.array(image.convert("RGBA"))[..., 3]
    assert np.argwhere(opacity).tolist() == [[1, 2]]
