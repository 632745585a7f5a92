"""AVIF of 8 to 12 bits against another decoder, turned by its own boxes alone."""

from __future__ import annotations

import io
import itertools
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lensmount_adapters import decode_image
from lensmount_adapters.errors import ImageError

imagecodecs: Any = pytest.importorskip("imagecodecs", reason="the extra 'torch' is not installed")
COARSE = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
PICTURE = Image.fromarray(COARSE).resize((53, 41), Image.Resampling.BICUBIC)


def saved(**options: Any) -> bytes:
    buffer = io.BytesIO()
    PICTURE.save(buffer, "AVIF", **{"quality": 90, "subsampling": "4:4:4", **options})
    return buffer.getvalue()


@pytest.mark.parametrize(("bits", "chroma"), list(itertools.product((8, 10, 12), ("444", "422", "420", "400"))))
def test_each_depth_and_chroma_is_scaled_by_the_rule(bits: int, chroma: str) -> None:
    rng = np.random.default_rng(bits)
    samples = (np.asarray(PICTURE).astype(np.uint16) << (bits - 8)) + rng.integers(0, 1 << (bits - 8), (41, 53, 3))
    samples = samples.astype(np.uint8 if bits == 8 else np.uint16)
    samples = np.ascontiguousarray(samples[..., 0]) if chroma == "400" else samples
    data = imagecodecs.avif_encode(samples, level=90, bitspersample=bits, pixelformat=chroma, codec="aom")
    stored = np.asarray(imagecodecs.avif_decode(data))
    expected = np.rint(stored.astype(np.float64) * 255 / ((1 << bits) - 1))
    found = np.asarray(decode_image(data))
    assert np.array_equal(found, np.broadcast_to(expected.reshape(41, 53, -1), found.shape))


TURNED: dict[int, Any] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("bits", [10, 12])
def test_a_deep_image_is_turned_too(orientation: int, bits: int) -> None:
    """Pillow writes 8 bits only, so the boxes irot and imir of its file are put into one of 10 or 12 bits."""
    samples = np.asarray(PICTURE).astype(np.uint16) << (bits - 8)
    data = imagecodecs.avif_encode(samples, level=90, bitspersample=bits, codec="aom")
    plain = np.asarray(decode_image(data))
    found = np.asarray(decode_image(with_boxes(data, orientation)))
    assert np.array_equal(found, TURNED[orientation](plain))


BOXES = {  # anticlockwise quarter turns, and a mirror along an axis: MIAF, 7.3.6.7 and EXIF in HEIF
    **{1: (None, None), 2: (None, 1), 3: (2, None), 4: (None, 0)},
    **{5: (1, 0), 6: (3, None), 7: (3, 0), 8: (1, None)},
}


def with_boxes(data: bytes, orientation: int) -> bytes:
    """Add irot and imir to the properties of the first item, and move what is behind them."""
    turns, axis = BOXES[orientation]
    new = [b"irot" + bytes([turns])] if turns is not None else []
    new += [b"imir" + bytes([axis])] if axis is not None else []
    added = b"".join((len(box) + 4).to_bytes(4, "big") + box for box in new)
    ipco, ipma = data.index(b"ipco") - 4, data.index(b"ipma") - 4
    count, at = 0, ipco + 8
    while at < ipco + int.from_bytes(data[ipco : ipco + 4], "big"):
        count, at = count + 1, at + int.from_bytes(data[at : at + 4], "big")
    grown, places = len(added) + len(new), bytes(0x80 | (count + 1 + n) for n in range(len(new)))
    body = bytearray(data[:at] + added + data[at:])
    ipma += len(added)
    used = ipma + 18  # version, number of items, the first item's number, how many properties it has
    end = used + 1 + body[used]
    body[used] += len(new)
    body[end:end] = places
    for place, more in ((ipma, len(new)), (ipco, len(added)), (data.index(b"iprp") - 4, grown)):
        body[place : place + 4] = (int.from_bytes(body[place : place + 4], "big") + more).to_bytes(4, "big")
    meta, iloc = data.index(b"meta") - 4, data.index(b"iloc") - 4
    body[meta : meta + 4] = (int.from_bytes(body[meta : meta + 4], "big") + grown).to_bytes(4, "big")
    offset = iloc + 22  # of the first item's only part
    body[offset : offset + 4] = (int.from_bytes(body[offset : offset + 4], "big") + grown).to_bytes(4, "big")
    return bytes(body)


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("xmp", [b"", b'<x tiff:Orientation="3"/>'])
def test_the_boxes_turn_it_once_and_xmp_does_not(orientation: int, xmp: bytes) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation  # Pillow writes it as the boxes irot and imir
    plain = np.asarray(decode_image(saved()))
    found = np.asarray(decode_image(saved(exif=exif, **({"xmp": xmp} if xmp else {}))))
    assert np.array_equal(found, TURNED[orientation](plain))


def test_an_odd_profile_costs_nothing_and_a_cut_is_refused() -> None:
    assert decode_image(saved(icc_profile=b"x" * 300)).tobytes() == decode_image(saved()).tobytes()
    for lost in (1, 50, 400):
        with pytest.raises(ImageError):
            decode_image(saved()[:-lost])
