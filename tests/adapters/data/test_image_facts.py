"""The facts about an image: extremes, one colour, transparency, border, and what its header says."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from lensmount_adapters.data.image_facts import ImageFacts, facts_of, format_of
from lensmount_adapters.inputs.images import decode_image


def facts(image: Image.Image, kind: str = "PNG", **options: object) -> ImageFacts:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return facts_of(buffer.getvalue(), decode_image(buffer.getvalue()), "a/1.png", "a")


def gradient(low: int, high: int) -> Image.Image:
    return Image.fromarray(np.linspace(low, high, 1200).reshape(30, 40).astype(np.uint8)).convert("RGB")


def test_extremes_and_size_are_those_of_the_pixels() -> None:
    found = facts(gradient(7, 201))

    assert (found.darkest, found.brightest, found.width, found.height) == (7, 201, 40, 30)
    assert not found.is_flat


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_an_image_of_one_colour_is_flat_in_every_format(kind: str) -> None:
    assert facts(Image.new("RGB", (40, 30), (90, 120, 30)), kind).is_flat


@pytest.mark.parametrize(
    ("fill", "expected"), [("black", "black"), ("white", "white"), ((10, 100, 200), "#0060c0"), (None, "")]
)
def test_a_border_of_one_colour_has_a_name(fill: str | None, expected: str) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(40, 200, (30, 40, 3), dtype=np.uint8))
    if fill is not None:
        ImageDraw.Draw(image).rectangle((0, 0, 39, 29), outline=fill, width=1)

    assert facts(image).traits["border"] == expected


def test_a_stripe_at_one_side_is_a_border() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(40, 200, (30, 40, 3), dtype=np.uint8))
    ImageDraw.Draw(image).rectangle((0, 28, 39, 29), fill="white")

    assert facts(image).traits["border"] == "white bottom"


@pytest.mark.parametrize("quality", [25, 50, 70, 90, 95])
def test_the_quality_of_a_jpeg_is_said_in_the_numbers_that_people_know(quality: int) -> None:
    said = facts(gradient(0, 200), "JPEG", quality=quality).traits["JPEG quality"]

    assert said.startswith(f"about {quality} (settings ")


def test_the_header_gives_mode_bits_and_colour() -> None:
    grey16 = facts(Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50))

    assert (grey16.traits["bits"], grey16.traits["colour"]) == ("16", "grey")
    assert facts(gradient(0, 200).convert("P")).traits["colour mode"] == "P"
    assert facts(gradient(0, 200), "TIFF").traits["bits"] == "8"


def test_a_header_that_cannot_be_read_costs_nothing() -> None:
    image = gradient(0, 200)

    found = facts_of(b"\x89PNG\r\n\x1a\n and nothing else", image, "a/1.png", "a")

    assert (found.format, found.width) == ("PNG", 40)
    assert set(found.traits) == {"file format", "colour", "border"}


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"RIFF\0\0\0\0WEBP", "WEBP"),
        (b"II*\0", "TIFF"),
        (b"MM\0+", "TIFF"),
        (b"BM\0\0", "BMP"),
        (b"GIF89a", "GIF"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
        (b"\0\0\0\x20ftypavif", "AVIF"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (bytes(128) + b"DICM", "DICOM"),
    ],
)
def test_a_format_is_recognised_by_its_first_bytes(start: bytes, name: str) -> None:
    assert format_of(start + bytes(200)) == name
