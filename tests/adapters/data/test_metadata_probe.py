"""Classes that differ by their files alone are found, and classes that differ by what they show are not."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw
from PIL.PngImagePlugin import PngInfo

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


def framed(image: Image.Image, colour: str, width: int = 2) -> Image.Image:
    ImageDraw.Draw(image).rectangle((0, 0, image.width - 1, image.height - 1), outline=colour, width=width)
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


def exif(tag: int, value: object, private: bool = False) -> Image.Exif:
    made = Image.Exif()
    (made.get_ifd(0x8769) if private else made)[tag] = value
    return made


def texts(**values: str) -> PngInfo:
    made = PngInfo()
    for name, value in values.items():
        made.add_text(name, value)
    return made


def jpegs(first: dict[str, object], second: dict[str, object]) -> tuple[Save, Save]:
    """JPEGs that differ by these options."""
    return (
        lambda image: saved(image, "JPEG", quality=90, **first),
        lambda image: saved(image, "JPEG", quality=90, **second),
    )


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
EXIF = exif(272, "Scope 5")
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
    "maker": (*jpegs({"exif": exif(271, "Zeiss")}, {"exif": exif(271, "Leica")}), "camera"),
    "serial number": (*jpegs({"exif": exif(42033, "12", True)}, {"exif": exif(42033, "34", True)}), "camera"),
    "lens": (*jpegs({"exif": exif(42036, "50 mm", True)}, {"exif": exif(42036, "85 mm", True)}), "lens"),
    "software": (*jpegs({"exif": exif(305, "ImageJ")}, {"exif": exif(305, "GIMP")}), "software"),
    "day taken": (
        *jpegs(
            {"exif": exif(36867, "2021:01:02 10:11:12", True)},
            {"exif": exif(36867, "2022:05:06 10:11:12", True)},
        ),
        "date",
    ),
    "day changed": (*jpegs({"exif": exif(306, "2021:01:02 10:11:12")}, {}), "date"),
    "artist": (*jpegs({"exif": exif(315, "Anna")}, {"exif": exif(315, "Bert")}), "author"),
    "JPEG comment": (*jpegs({"comment": b"CREATOR: gd-jpeg"}, {}), "comment"),
    "subsampling": (*jpegs({"subsampling": 0}, {"subsampling": 2}), "JPEG quality"),
    "progressive": (*jpegs({"progressive": True}, {}), "compression"),
    "colour profile of equal length": (
        *jpegs({"icc_profile": PROFILE}, {"icc_profile": PROFILE[:-4] + b"abcd"}),
        "colour profile",
    ),
    "EXIF of a PNG": (lambda image: saved(image, "PNG", exif=EXIF), png, "camera"),
    "software of a PNG": (lambda image: saved(image, "PNG", pnginfo=texts(Software="ImageJ")), png, "software"),
    "comment of a PNG": (lambda image: saved(image, "PNG", pnginfo=texts(Comment="by GIMP")), png, "comment"),
    "description of a TIFF": (
        lambda image: saved(image, "TIFF", description="ImageJ=1.53"),
        lambda image: saved(image, "TIFF"),
        "comment",
    ),
    "quality of JPEG 2000": (
        lambda image: saved(image, "JPEG2000", quality_mode="rates", quality_layers=[40]),
        lambda image: saved(image, "JPEG2000", quality_mode="rates", quality_layers=[5]),
        "bytes per pixel",
    ),
    "width of the border": (
        lambda image: png(framed(image, "black")),
        lambda image: png(framed(image, "black", 6)),
        "border width",
    ),
    "a bar below": (lambda image: png(framed(image, "black", 8).crop((8, 8, 40, 40))), png, "border"),
    "a channel of transparency": (lambda image: png(image.convert("RGBA")), png, "colour mode"),
    "inks": (
        lambda image: saved(image.convert("CMYK"), "JPEG"),
        lambda image: saved(image, "JPEG"),
        "colour mode",
    ),
    "16 bits": (
        lambda image: png(Image.fromarray(np.asarray(image.convert("L"), dtype=np.uint16) * np.uint16(257))),
        lambda image: png(image.convert("L")),
        "bits",
    ),
    "one pixel cut off": (lambda image: png(image.crop((0, 0, 47, 40))), png, "width"),
    "BMP": (lambda image: saved(image, "BMP"), png, "file format"),
    "GIF": (lambda image: saved(image, "GIF"), png, "file format"),
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
