"""What predict(PIL image) and predict(array) send shows the server the same pixels as the file, or is refused."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from tests.adapters.inputs.test_webp import animation
from tests.adapters.inputs.test_webp import drawn as webp_frame
from tests.adapters.inputs.tiff_by_hand import simple

from lensmount_adapters import decode_image
from lensmount_client import InvalidInput
from lensmount_client._files.image import image_bytes

imagecodecs: Any = pytest.importorskip("imagecodecs", reason="the extra 'torch' is not installed")
DRAWN = np.random.default_rng(0).integers(0, 256, (20, 30, 4)).astype(np.uint8)
DEEP = np.random.default_rng(1).integers(0, 65_536, (20, 30, 4)).astype(np.uint16)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(samples: np.ndarray) -> bytes:
    """A PNG by libpng."""
    encoded: bytes = imagecodecs.png_encode(np.ascontiguousarray(samples))
    return encoded


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def files() -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for mode, kind in itertools.product(("1", "L", "LA", "P", "RGB", "RGBA", "CMYK"), ("PNG", "TIFF", "JPEG", "WEBP")):
        image = Image.fromarray(DRAWN).convert("RGB" if mode in ("P", "CMYK") else mode).convert(mode)
        if mode in {"JPEG": ("LA", "P", "RGBA"), "WEBP": ("1", "CMYK", "LA", "P"), "PNG": ("CMYK",)}.get(kind, ()):
            continue
        found[f"{kind} {mode}"] = saved(image, kind)
        for orientation in (3, 6) if kind != "BMP" else ():
            found[f"{kind} {mode} turned {orientation}"] = saved(image, kind, exif=turned(orientation))
    for mode in ("L", "P", "RGB"):
        image = Image.fromarray(DRAWN[..., :3]).convert(mode)
        found |= {f"{kind} {mode}": saved(image, kind) for kind in ("BMP", "GIF")}
        found[f"PNG {mode} with a transparent colour"] = saved(
            image, "PNG", transparency={"RGB": (1, 2, 3)}.get(mode, 3)
        )
    found |= {f"JPEG2000 {mode}": saved(Image.fromarray(DRAWN).convert(mode), "JPEG2000") for mode in ("L", "RGB")}
    found["AVIF"] = saved(Image.fromarray(DRAWN[..., :3]), "AVIF")
    found["TIFF LAB"] = saved(Image.frombytes("LAB", (30, 20), DRAWN[..., :3].tobytes()), "TIFF")
    found |= {f"PNG of 16 bits, {c} channels": png(DEEP[..., :c].squeeze()) for c in (1, 2, 3, 4)}
    for bits, order, photometric in itertools.product((1, 2, 4, 8, 12, 16), "<>", (0, 1)):
        samples = DEEP[..., 0] >> (16 - bits)
        found[f"TIFF of {bits} bits {order} {photometric}"] = simple(samples, bits, photometric, order)
        more = {274: (3, [6])}
        found[f"TIFF of {bits} bits {order} {photometric}, turned"] = simple(
            samples, bits, photometric, order, more=more
        )
    found |= bmps() | photos()
    for extra, bits in itertools.product((0, 1, 2), (8, 16)):
        samples = (DEEP >> (16 - bits)).copy()
        samples[..., :3] = np.minimum(samples[..., :3], samples[..., 3:])
        found[f"TIFF RGB of {bits} bits with a fourth sample {extra}"] = simple(
            samples, bits, 2, more={338: (3, [extra])}
        )
    for colours in (DRAWN[0, :16, :3].astype(int) * 257, DEEP[0, :16, :3].astype(int)):
        palette = {320: (3, colours.T.ravel().tolist())}
        found[f"TIFF palette {colours[0, 0]}"] = simple(DEEP[..., 0] >> 12, 4, 3, more=palette)
    return found


def bmps() -> dict[str, bytes]:
    """BMPs of 16 and 32 bits with masks, which PIL cannot write, and a GIF whose frame covers a part of it."""
    found: dict[str, bytes] = {}
    for name, bits, masks in (
        ("555", 16, (0x7C00, 0x3E0, 0x1F, 0)),
        ("565", 16, (0xF800, 0x7E0, 0x1F, 0)),
        ("1555", 16, (0x7C00, 0x3E0, 0x1F, 0x8000)),
        ("BGRA", 32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
        ("BGRX", 32, (0xFF0000, 0xFF00, 0xFF, 0)),
    ):
        pixels = DEEP.astype("<u2").tobytes()[: 20 * 30 * bits // 8]
        info = struct.pack("<IiiHHIIiiII4I", 108, 30, 20, 1, bits, 3, len(pixels), 0, 0, 0, 0, *masks).ljust(108, b"\0")
        found[f"BMP {name}"] = b"BM" + struct.pack("<IHHI", 122 + len(pixels), 0, 0, 122) + info + pixels
    gif = bytearray(saved(Image.fromarray(DRAWN[..., :3]).convert("P"), "GIF"))
    gif[6:10] = struct.pack("<HH", 40, 25)
    return found | {"GIF with a part": bytes(gif)}


def photos() -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    picture = Image.fromarray(DRAWN[..., :3])
    for xmp in ('tiff:Orientation="6"', "tiff:Orientation = '6'", "<tiff:Orientation>6</tiff:Orientation>"):
        for kind in ("PNG", "JPEG", "WEBP", "AVIF"):
            more: dict[str, Any] = {"xmp": f"<x {xmp}/>".encode()}
            if kind == "PNG":
                text = PngInfo()
                text.add_itxt("XML:com.adobe.xmp", f"<x {xmp}/>")
                more = {"pnginfo": text}
            found[f"{kind} with {xmp}"] = saved(picture, kind, **more)
        found[f"TIFF with {xmp}"] = simple(DRAWN[..., :3], 8, 2, more={700: (1, f"<x {xmp}/>".encode())})
    for bits in (8, 10, 12):
        samples = DRAWN[..., :3] if bits == 8 else DEEP[..., :3] >> (16 - bits)
        found[f"AVIF of {bits} bits"] = imagecodecs.avif_encode(
            np.ascontiguousarray(samples), level=90, bitspersample=bits, codec="aom"
        )
    return found


FILES = files()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("is_loaded", [False, True])
def test_an_image_that_pil_opened_shows_the_server_the_pixels_of_its_file_or_is_refused(
    name: str, is_loaded: bool, tmp_path: Path
) -> None:
    path = tmp_path / "image"
    path.write_bytes(FILES[name])
    expected = np.asarray(decode_image(FILES[name]))
    sent, advice = b"", "Fix: send the file itself"
    with contextlib.suppress(UnidentifiedImageError):  # of files that PIL itself does not read
        with Image.open(path) as image:
            if is_loaded:
                image.load()
            try:
                sent = image_bytes(image)
            except InvalidInput as error:
                advice = str(error)
    sent = sent or image_bytes(path)
    assert "Fix: send the file itself" in advice
    assert np.array_equal(np.asarray(decode_image(sent)), expected)


def test_a_transparent_colour_of_16_bits_is_refused_even_if_the_file_cannot_be_reached_any_more() -> None:
    clear = DEEP[2, 2, :3].astype(">u2").tobytes()
    deep = png(DEEP[..., :3])
    chunk = struct.pack(">I", 6) + b"tRNS" + clear + struct.pack(">I", zlib.crc32(b"tRNS" + clear))
    image = Image.open(io.BytesIO(deep[:33] + chunk + deep[33:]))
    image.load()  # PIL closes the file

    with pytest.raises(InvalidInput, match=r"found a PIL image from a 16-bit PNG.* Fix: send the file itself"):
        image_bytes(image)


def test_a_file_that_pil_opens_and_cannot_decode_is_to_be_sent_itself() -> None:
    data = saved(Image.fromarray(DRAWN[..., :3]), "PNG")
    with pytest.raises(InvalidInput, match=r"cannot be encoded \(.*\)\. Fix: send the file itself"):
        image_bytes(Image.open(io.BytesIO(data[: len(data) // 2])))


def test_the_advice_of_the_docs_about_an_array_of_a_pil_image_gives_the_pixels_of_the_file() -> None:
    tried = 0
    for name, data in FILES.items():
        if not re.match("(PNG|JPEG|WEBP|TIFF|GIF|BMP) (1|L|LA|P|RGB|RGBA)( turned| with a transparent|$)", name):
            continue  # other colours than those of the screen
        image = Image.open(io.BytesIO(data))
        with contextlib.suppress(InvalidInput):  # the SDK says that PIL has changed it
            image_bytes(image)
            array = np.asarray(ImageOps.exif_transpose(image).convert("RGBA"))
            seen = np.asarray(decode_image(image_bytes(array)))
            assert np.array_equal(seen, np.asarray(decode_image(data))), name
            tried += 1
    assert tried >= 30


def test_most_images_that_pil_opened_are_sent() -> None:
    refused = 0
    for data in FILES.values():
        try:
            image_bytes(Image.open(io.BytesIO(data)))
        except (InvalidInput, UnidentifiedImageError):
            refused += 1
    assert refused < len(FILES) / 3


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1), (20, 30, 3), (20, 30, 4)])
def test_a_uint16_array_shows_the_server_the_pixels_of_its_16_bit_file(shape: tuple[int, ...]) -> None:
    array = DEEP[..., : shape[2] if len(shape) == 3 else 1].reshape(shape)
    of_file = decode_image(png(array.squeeze(-1) if shape[-1] == 1 else array))
    for same in (array, array.astype(">u2"), array[::-1][::-1]):
        assert np.array_equal(np.asarray(decode_image(image_bytes(same))), np.asarray(of_file))


def test_an_array_of_true_and_false_is_white_and_black() -> None:
    array = DRAWN[..., 0] > 100
    expected = np.where(array[..., None], 255, 0).repeat(3, axis=2)
    assert np.array_equal(np.asarray(decode_image(image_bytes(array))), expected)


def test_both_byte_orders_of_a_16_bit_pil_image_are_the_same() -> None:
    little = Image.fromarray(DEEP[..., 0])
    big = Image.frombytes("I;16B", little.size, DEEP[..., 0].astype(">u2").tobytes())
    assert decode_image(image_bytes(big)).tobytes() == decode_image(image_bytes(little)).tobytes()


WITH_A_GAP = np.where(DEEP[0, 0, 0] == DEEP, np.nan, DEEP).astype(np.float32)


@pytest.mark.parametrize(
    "source",
    [DEEP.astype(np.int32) - 9, DRAWN.astype(np.int8), DEEP.astype(np.int64), DEEP * (1 + 2j), WITH_A_GAP],
    ids=lambda array: array.dtype.name,
)
def test_the_advice_about_an_array_without_a_range_works(source: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match=f"{source.dtype.name}, expected uint8 in 0..255 or uint16") as caught:
        image_bytes(source)
    advice = str(caught.value).partition("for example ")[2].partition(", or for floats")[0]
    seen = np.asarray(Image.open(io.BytesIO(image_bytes(eval(advice, {"numpy": np, "array": source})))))
    assert (seen.min(), seen.max()) == (0, 255)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_the_advice_about_a_pil_image_of_32_bits_works(mode: str) -> None:
    image = Image.fromarray(DEEP[..., 0].astype(np.int32)).convert(mode)
    with pytest.raises(InvalidInput, match=f"32-bit pixels .mode {mode}") as caught:
        image_bytes(image)
    advice = str(caught.value).partition("for example ")[2]
    seen = np.asarray(Image.open(io.BytesIO(image_bytes(eval(advice, {"numpy": np, "image": image})))))
    assert (seen.min(), seen.max()) == (0, 255)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # PIL's own, when it opens the image
def test_odd_exif_of_a_pil_image_does_not_keep_it_from_being_sent() -> None:
    data = saved(Image.fromarray(DRAWN[..., :3]), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12")
    image = Image.open(io.BytesIO(data))
    assert decode_image(image_bytes(image)).tobytes() == decode_image(data).tobytes()


@pytest.mark.parametrize("with_alpha", [False, True])
@pytest.mark.parametrize(("at", "canvas"), [((0, 0), (14, 10)), ((4, 6), (30, 20))])
def test_a_webp_of_one_frame_is_sent_with_its_pixels_or_asks_for_the_file(
    at: tuple[int, int], canvas: tuple[int, int], with_alpha: bool
) -> None:
    for flags in (0, 0x10):
        data = animation(webp_frame(with_alpha), at, canvas, flags)
        if not flags and (with_alpha or canvas != (14, 10)):
            with pytest.raises(InvalidInput, match=r"a WebP whose frame covers a part.* Fix: send the file itself"):
                image_bytes(Image.open(io.BytesIO(data)))
            assert image_bytes(data) == data
        else:
            sent = image_bytes(Image.open(io.BytesIO(data)))
            assert decode_image(sent).tobytes() == decode_image(data).tobytes()
