"""Images of each class, from the user's own files."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from lensmount_adapters.report.pictures import heat, picture, sample_images

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawJudged


def png(path: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (10, 20, 30)).save(buffer, "PNG")
    return buffer.getvalue()


def fail(path: str) -> bytes:
    raise OSError(path)


def test_the_middle_of_each_third_is_shown_whatever_its_answer(draw_judged: DrawJudged) -> None:
    scored = draw_judged(["oak", "elm"], images=36, wrong=36)  # 18 of each class, in the order of their paths

    samples = sample_images(scored, png, None)

    assert [label for label, _ in samples] == ["oak", "elm"]
    assert [image.path for image in samples[0][1]] == ["oak/006.png", "oak/018.png", "oak/030.png"]
    assert {image.answer for image in samples[0][1]} == {"elm"}
    assert all(image.image and image.heat is None for _, images in samples for image in images)


@pytest.mark.parametrize(("images", "shown"), [(2, 1), (4, 2), (6, 3), (8, 3)])
def test_a_small_class_shows_what_it_has(images: int, shown: int, draw_judged: DrawJudged) -> None:
    samples = sample_images(draw_judged(["oak", "elm"], images=images), png, None)

    assert [len({image.path for image in group}) for _, group in samples] == [shown, shown]


def test_many_classes_show_the_first_twelve(draw_judged: DrawJudged) -> None:
    labels = [f"species {number}" for number in range(200)]

    assert len(sample_images(draw_judged(labels, images=400), png, None)) == 12


def test_a_class_without_images_is_left_out(draw_judged: DrawJudged) -> None:
    assert [label for label, _ in sample_images(draw_judged(["oak", "elm"], images=1), png, None)] == ["oak"]


def test_a_file_or_map_that_fails_is_left_out_and_nothing_else(draw_judged: DrawJudged) -> None:
    samples = sample_images(draw_judged(["oak", "elm"]), fail, fail)

    assert all(image.image is None and image.heat is None for _, images in samples for image in images)
    assert picture(png, "a") is not None
    assert heat(None, "a") is None
    assert heat(lambda path: None, "a") is None
    assert str(heat(png, "a")).startswith("data:image/jpeg;base64,")
