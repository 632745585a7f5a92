"""JPEG 2000 of 8 to 16 bits against OpenJPEG and the array that was written; what it lacks is refused by name."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lensmount_adapters import ImageLimits, decode_image
from lensmount_adapters.errors import ImageError, ImageInvalid, ImageTooLarge

imagecodecs: Any = pytest.importorskip("imagecodecs", reason="the extra 'torch' is not installed")


def drawn(bits: int, channels: int) -> np.ndarray:
    samples = np.random.default_rng(bits).integers(0, 1 << bits, (40, 50, channels))
    samples = samples.astype(np.uint8 if bits <= 8 else np.uint16)
    return samples[..., 0] if channels == 1 else samples


def jpeg2000(samples: np.ndarray, bits: int, kind: str = "jp2") -> bytes:
    encoded: bytes = imagecodecs.jpeg2k_encode(samples, level=0, codecformat=kind, bitspersample=bits)
    return encoded


@pytest.mark.parametrize("bits", [8, 9, 10, 12, 14, 16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["jp2", "j2k"])
def test_each_depth_is_scaled_by_the_rule(bits: int, channels: int, kind: str) -> None:
    samples = drawn(bits, channels)
    rule = np.rint(samples * 255.0 / ((1 << bits) - 1))
    found = np.asarray(decode_image(jpeg2000(samples, bits, kind)))
    assert np.array_equal(found, rule if channels == 3 else rule[..., None].repeat(3, axis=2))


def test_signed_samples_are_refused_by_name() -> None:
    data = bytearray(jpeg2000(drawn(12, 1), 12, "j2k"))
    data[42] |= 0x80
    with pytest.raises(ImageInvalid, match="a JPEG 2000 image of signed 12-bit samples"):
        decode_image(bytes(data))


def test_every_cut_is_refused() -> None:
    for bits in (8, 16):
        data = jpeg2000(drawn(bits, 3), bits)
        for end in range(20, len(data) - 40, 251):
            with pytest.raises(ImageError):
                decode_image(data[:end])


def test_sizes_and_tiles_are_checked_before_the_decoder_runs() -> None:
    data = bytearray(jpeg2000(drawn(8, 1), 8, "j2k"))
    with pytest.raises(ImageTooLarge, match="50 x 40"):
        decode_image(bytes(data), ImageLimits(max_side=49))
    struct.pack_into(">2I", data, 24, 1, 1)  # tiles of one pixel
    struct.pack_into(">2I", data, 8, 5000, 5000)
    with pytest.raises(ImageTooLarge, match="25000000 tiles"):
        decode_image(bytes(data))


def test_tiny_code_blocks_of_a_large_image_are_refused() -> None:
    data = bytearray(jpeg2000(drawn(8, 1), 8, "j2k"))
    struct.pack_into(">2I", data, 8, 6000, 6000)
    struct.pack_into(">2I", data, 24, 6000, 6000)
    coding = data.index(b"\xff\x52")
    data[coding + 10] = data[coding + 11] = 0
    with pytest.raises(ImageTooLarge, match="code-blocks of 16 pixels"):
        decode_image(bytes(data))


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def jp2(samples: np.ndarray, bits: int, space: int, *more: bytes, before: bytes = b"") -> bytes:
    """A file by T.800, annex I: a header box with the colour space and more boxes, and the pixels as they are."""
    height, width, channels = samples.shape
    code = imagecodecs.jpeg2k_encode(samples.squeeze(), level=0, codecformat="j2k", bitspersample=bits, mct=0)
    header = box(b"ihdr", struct.pack(">IIHBBBB", height, width, channels, bits - 1, 7, 0, 0))
    colour = box(b"colr", b"\1\0\0" + struct.pack(">I", space))
    start = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    return start + box(b"jp2h", header + colour + b"".join(more)) + before + box(b"jp2c", code)


def channels(*entries: tuple[int, int, int]) -> bytes:
    """Number of the channel, its kind (0 colour, 1 alpha, 2 premultiplied alpha), and the colour that it means."""
    return box(b"cdef", struct.pack(">H", len(entries)) + b"".join(struct.pack(">3H", *entry) for entry in entries))


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_ycbcr_becomes_rgb_at_every_depth(bits: int) -> None:
    picture = Image.fromarray(drawn(8, 3)[::8, ::8]).resize((50, 40), Image.Resampling.BICUBIC)
    planes = np.rint(np.asarray(picture.convert("YCbCr")) * (((1 << bits) - 1) / 255))
    found = decode_image(jp2(planes.astype(np.uint8 if bits == 8 else np.uint16), bits, 18))
    assert np.abs(np.asarray(found).astype(int) - np.asarray(picture)).max() <= 4


@pytest.mark.parametrize("bits", [8, 12])
@pytest.mark.parametrize(("space", "words"), [(14, "CIELab"), (20, "e-sRGB"), (21, "ROMM-RGB"), (99, "space 99")])
def test_colours_that_decoders_show_as_rgb_are_refused_by_name(bits: int, space: int, words: str) -> None:
    with pytest.raises(ImageInvalid, match=f"a JPEG 2000 image of .*{words}.* Fix: save it as PNG"):
        decode_image(jp2(drawn(bits, 3), bits, space))


def test_alpha_is_blended_over_white_whether_the_file_defines_its_channels_or_not() -> None:
    for count, space in ((2, 17), (4, 16)):
        samples = drawn(8, count)
        colours, alpha = samples[..., :-1].astype(float), samples[..., -1:] / 255
        rule = np.rint(colours * alpha + 255 * (1 - alpha))
        defined = channels(*((place, 0, place + 1) for place in range(count - 1)), (count - 1, 1, 0))
        for more in ((), (defined,)):
            found = np.asarray(decode_image(jp2(samples, 8, space, *more))).astype(int)
            assert np.abs(found - rule).max() <= 1


@pytest.mark.parametrize(
    ("count", "entries"),
    [
        (3, ((0, 0, 3), (1, 0, 2), (2, 0, 1))),
        (4, ((0, 1, 0), (1, 0, 1), (2, 0, 2), (3, 0, 3))),
        (4, ((0, 0, 1), (1, 0, 2), (2, 0, 3), (3, 2, 0))),
        (4, ((0, 0, 1), (1, 0, 2), (2, 0, 3), (3, 65535, 65535))),
    ],
    ids=["BGR", "ARGB", "premultiplied", "without a meaning"],
)
def test_channels_of_another_order_or_meaning_are_refused(
    count: int, entries: tuple[tuple[int, int, int], ...]
) -> None:
    with pytest.raises(ImageInvalid, match=r"channels have another order or meaning.* Fix: save it as PNG"):
        decode_image(jp2(drawn(8, count), 8, 16, channels(*entries)))


def test_a_palette_gives_its_colours_and_one_that_is_mapped_otherwise_is_refused() -> None:
    colours, indices = np.random.default_rng(0).integers(0, 256, (16, 3)).astype(np.uint8), drawn(8, 1)[..., None] % 16
    table = box(b"pclr", struct.pack(">HB", 16, 3) + b"\7\7\7" + colours.tobytes())
    usual, other = (
        box(b"cmap", b"".join(struct.pack(">HBB", 0, 1, c) for c in order)) for order in ((0, 1, 2), (2, 1, 0))
    )
    found = decode_image(jp2(indices, 8, 16, table, usual))
    assert np.array_equal(np.asarray(found), colours[indices[..., 0]])
    with pytest.raises(ImageInvalid, match="palette is mapped"):
        decode_image(jp2(indices, 8, 16, table, other))


def test_a_small_preview_in_another_box_does_not_hide_the_size_of_the_pixels() -> None:
    samples = drawn(16, 3)
    preview = box(b"uuid", bytes(16) + jpeg2000(samples[:4, :4].copy(), 16, "j2k"))
    data = jp2(samples, 16, 16, before=preview)
    assert np.array_equal(np.asarray(decode_image(data)), np.rint(samples * 255.0 / 65_535))
    with pytest.raises(ImageTooLarge, match="50 x 40"):
        decode_image(data, ImageLimits(max_side=10))


@pytest.mark.parametrize("kind", [b"xml ", b"uuid", b"abcd"])
def test_other_boxes_cost_nothing_and_turn_nothing(kind: bytes) -> None:
    """Viewers do not turn a JPEG 2000 file by the EXIF block that some programs put into a box of their own."""
    exif = b"JpgTiffExif->JP2MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x112, 3, 1, 6, 0, 0)
    samples = drawn(8, 3)
    assert np.array_equal(np.asarray(decode_image(jp2(samples, 8, 16, before=box(kind, exif)))), samples)
