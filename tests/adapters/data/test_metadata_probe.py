"""Classes that differ by their files alone are found, and classes that differ by what they show are not."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from lensmount_adapters.data.image_facts import facts_of
from lensmount_adapters.data.metadata_probe import Tell, telling_traits
from lensmount_adapters.inputs.images import decode_image

DATA = Path(__file__).parents[4] / "shared" / "data"
Save = Callable[[Image.Image], bytes]


def noise(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(60, 200, (size[1], size[0], 3), dtype=np.uint8))


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def framed(image: Image.Image, colour: str) -> Image.Image:
    ImageDraw.Draw(image).rectangle((0, 0, image.width - 1, image.height - 1), outline=colour, width=2)
    return image


def tells(first: Save, second: Save, each: int = 12, more: tuple[str, ...] = ()) -> list[Tell]:
    """Probe `each` images of class "first", and as many of "second" and of each further class, saved like "second"."""
    images = []
    for number, label in enumerate(("first", "second", *more)):
        for seed in range(each):
            data = (first if label == "first" else second)(noise(100 * number + seed))
            images.append(facts_of(data, decode_image(data), f"{label}/{seed}", label))
    return telling_traits(images)


def png(image: Image.Image) -> bytes:
    return saved(image, "PNG")


EXIF = Image.Exif()
EXIF[272] = "Scope 5"
CASES: dict[str, tuple[Save, Save, str]] = {
    "format": (lambda image: saved(image, "JPEG", quality=95), png, "file format"),
    "grey against colour": (lambda image: png(image.convert("L")), png, "colour mode"),
    "grey saved as colour": (lambda image: png(image.convert("L").convert("RGB")), png, "colour"),
    "palette": (lambda image: png(image.quantize(64)), png, "colour mode"),
    "size": (lambda image: png(image.resize((60, 40))), png, "width"),
    "shape": (lambda image: png(image.resize((40, 48))), png, "shape"),
    "white frame": (lambda image: png(framed(image, "white")), png, "border"),
    "black frame against white": (
        lambda image: png(framed(image, "black")),
        lambda image: png(framed(image, "white")),
        "border",
    ),
    "JPEG quality": (
        lambda image: saved(image, "JPEG", quality=60),
        lambda image: saved(image, "JPEG", quality=90),
        "JPEG quality",
    ),
    "bytes per pixel": (
        lambda image: saved(image, "WEBP", quality=10),
        lambda image: saved(image, "WEBP", quality=95),
        "bytes per pixel",
    ),
    "camera": (lambda image: saved(image, "JPEG", exif=EXIF), lambda image: saved(image, "JPEG"), "camera"),
    "resolution": (lambda image: saved(image, "PNG", dpi=(300, 300)), png, "resolution"),
    "compression of TIFF": (
        lambda image: saved(image, "TIFF", compression="tiff_lzw"),
        lambda image: saved(image, "TIFF"),
        "compression",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_difference_between_the_files_is_named(case: str) -> None:
    first, second, trait = CASES[case]

    found = tells(first, second)

    assert trait in {tell.trait for tell in found}
    assert {tell.label for tell in found} == {"first"}


def test_one_class_of_many_is_found() -> None:
    found = tells(lambda image: saved(image, "JPEG"), png, more=("third", "fourth", "fifth"))

    assert {(tell.label, tell.trait) for tell in found} >= {("first", "file format")}
    assert next(tell.how for tell in found if tell.trait == "file format") == (
        "'JPEG' in 12 of 12, 'PNG' in 48 of the 48 others"
    )
    assert all(tell.label == "first" for tell in found)


def test_equal_files_and_a_few_images_tell_nothing() -> None:
    assert tells(png, png) == []
    assert tells(lambda image: saved(image, "JPEG"), png, each=7) == []


def test_a_trait_that_both_classes_have_at_times_tells_nothing() -> None:
    mixed = iter([png, lambda image: saved(image, "JPEG")] * 40)

    assert tells(lambda image: next(mixed)(image), lambda image: next(mixed)(image)) == []


def test_random_sizes_tell_nothing() -> None:
    random = np.random.default_rng(3)

    def any_size(image: Image.Image) -> bytes:
        return png(image.resize((int(random.integers(20, 90)), int(random.integers(20, 90)))))

    assert tells(any_size, any_size, each=40) == []


@pytest.mark.parametrize("data", ["malaria-nih", "malaria-nih-gray50", "histology-lc25000-lung", "smoking"])
def test_the_shared_data_raise_no_alarm(data: str) -> None:
    root = DATA / data
    if not root.is_dir():
        pytest.skip("the shared data are not here")
    images = []
    for path in [path for folder in sorted(root.iterdir()) for path in sorted(folder.iterdir())[:100]]:
        raw = path.read_bytes()
        images.append(facts_of(raw, decode_image(raw), path.name, path.parent.name))

    assert telling_traits(images) == []
