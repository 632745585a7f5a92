"""An explanation is drawn over its image: coloured where it speaks for the label, clear elsewhere."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from lensmount_client import CannotWrite, Explanation, InvalidInput
from lensmount_client._types.results import AdapterId, Backbone

Image = pytest.importorskip("PIL.Image")

GREY = (100, 100, 100)


def image_of(size: tuple[int, int], kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, GREY).save(buffer, kind, **options)
    return buffer.getvalue()


def explained(
    values: tuple[tuple[float, ...], ...], box: tuple[float, float, float, float], image: bytes
) -> Explanation:
    grid = (len(values), len(values[0]))
    adapter, backbone = AdapterId("cells", 1, "sha256:00"), Backbone("tiny", "sha256:11")
    return Explanation("cat", 0.75, "cam", grid, values, (40, 40), box, adapter, backbone, "r-1", {}, image)


def test_only_what_speaks_for_the_label_is_coloured_and_the_largest_value_is_red(tmp_path: Path) -> None:
    values = ((0.0, -2.0), (0.0, 3.0))

    drawn = Image.open(explained(values, (0, 0, 40, 40), image_of((40, 40))).save(tmp_path / "why.png"))

    assert drawn.getpixel((4, 4)) == drawn.getpixel((35, 4)) == drawn.getpixel((4, 35)) == GREY
    red, green, blue = drawn.getpixel((39, 39))
    expected = (100 + 0.75 * 98, 100 - 0.75 * 80, 100 - 0.75 * 60)  # three quarters of (198, 20, 40)
    assert (red, green, blue) == pytest.approx(expected, abs=1.5)


def test_a_grid_over_a_part_of_the_image_leaves_the_rest_clear(tmp_path: Path) -> None:
    drawn = Image.open(explained(((1.0,),), (10, 10, 30, 20), image_of((40, 40))).save(tmp_path / "why.png"))

    changed = [(x, y) for x in range(40) for y in range(40) if drawn.getpixel((x, y)) != GREY]
    assert (min(changed), max(changed), len(changed)) == ((10, 10), (29, 19), 200)


def test_a_grid_larger_than_the_image_is_cut_at_its_edges(tmp_path: Path) -> None:
    values = ((1.0,), (0.0,), (0.0,), (0.0,))

    drawn = Image.open(explained(values, (0, -40, 40, 80), image_of((40, 40))).save(tmp_path / "why.png"))

    assert all(drawn.getpixel((x, y)) == GREY for x in (0, 39) for y in (20, 39))


def test_without_a_positive_value_the_image_stays_as_it_is(tmp_path: Path) -> None:
    drawn = Image.open(explained(((-1.0, 0.0),), (0, 0, 40, 40), image_of((40, 40))).save(tmp_path / "why.png"))

    assert drawn.getcolors() == [(1600, GREY)]


def test_an_image_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise

    out = explained(((1.0,),), (0, 0, 20, 40), image_of((40, 20), "JPEG", exif=exif)).save(tmp_path / "why.png")

    with Image.open(out) as drawn:
        assert drawn.size == (20, 40)


def test_an_image_that_pillow_cannot_read_and_a_file_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"Fix: explanation_png\(\)"):
        explained(((1.0,),), (0, 0, 4, 4), b"no image").save(tmp_path / "why.png")
    with pytest.raises(CannotWrite, match=r"why\.odd"):
        explained(((1.0,),), (0, 0, 4, 4), image_of((4, 4))).save(tmp_path / "why.odd")
