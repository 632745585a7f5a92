"""The orientation tag by itself: found among any other tags, and 1 wherever it says nothing that can be meant."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from lensmount_adapters.inputs.orientation import orientation_in_exif, orientation_of, upright


def exif(*entries: tuple[int, int, int, bytes], order: str = ">", start: int = 8) -> bytes:
    """A TIFF header and one directory at `start`; each entry is tag, type, count and its four bytes."""
    head = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(f"{order}I", start)
    body = b"".join(struct.pack(f"{order}HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return head.ljust(start, b"\0") + struct.pack(f"{order}H", len(entries)) + body + bytes(4)


def short(value: int, order: str = ">") -> bytes:
    return struct.pack(f"{order}HH", value, 0)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("value", range(10))
def test_numbers_from_1_to_8_count_and_others_do_not(order: str, value: int) -> None:
    block = exif((0x112, 3, 1, short(value, order)), order=order)
    assert orientation_of(block) == (value if 1 <= value <= 8 else 1)
    assert orientation_of(b"Exif\0\0" + block) == orientation_of(block)


@pytest.mark.parametrize(
    "block",
    [b"", b"Exif\0\0", b"MM\0*", exif()[:9], exif(start=500)[:100], exif((0x112, 2, 1, b"6\0\0\0")), b"x" * 50],
    ids=["nothing", "no header", "no place", "no directory", "a place beyond the end", "a letter", "no TIFF"],
)
def test_a_damaged_block_has_no_orientation(block: bytes) -> None:
    assert orientation_of(block) == 1


def test_xmp_counts_only_if_exif_says_nothing() -> None:
    xmp = b'<rdf:Description tiff:Orientation="8"/>'
    assert orientation_of(None, xmp) == orientation_of(exif(), xmp.decode()) == 8
    assert orientation_of(exif((0x112, 3, 1, short(6))), xmp) == 6
    assert orientation_of(None, b"<tiff:Orientation>3</tiff:Orientation>") == 3


def test_a_thousand_blocks_with_one_odd_tag_keep_their_orientation() -> None:
    rng = random.Random(0)
    for _ in range(1000):
        odd = (rng.randrange(65_536), rng.choice((0, 2, 5, 7, 10, 12, 99)), rng.randrange(2**32), rng.randbytes(4))
        entries = [odd, (0x112, 3, 1, short(6))]
        rng.shuffle(entries)
        assert orientation_in_exif(exif(*entries)) == 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_pillow_turns_them(orientation: int) -> None:
    image = Image.fromarray(np.arange(60, dtype=np.uint8).reshape(4, 5, 3))
    image.getexif()[0x112] = orientation
    expected = ImageOps.exif_transpose(image)
    assert upright(image, orientation).tobytes() == expected.tobytes()
    assert upright(image, orientation).size == expected.size
