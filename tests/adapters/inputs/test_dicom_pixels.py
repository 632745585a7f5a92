"""Each transfer syntax gives the samples that were written; a compressed frame of another size is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.adapters.inputs.dicom_by_hand import dicom

from lensmount_adapters import decode_image
from lensmount_adapters.errors import ImageError, ImageInvalid

pytest.importorskip("pydicom", reason="the extra 'dicom' is not installed")
imagecodecs: Any = pytest.importorskip("imagecodecs", reason="the extra 'torch' is not installed")
UID = "1.2.840.10008.1.2"
RULES = {8: 255, 12: 4095, 16: 65_535}


def drawn(stored: int, channels: int = 1) -> np.ndarray:
    samples = np.random.default_rng(stored).integers(0, 1 << stored, (24, 30, channels))
    samples = samples.astype(np.uint8 if stored <= 8 else np.uint16)
    return samples[..., 0] if channels == 1 else samples


def rule(samples: np.ndarray, stored: int) -> np.ndarray:
    scaled = np.rint(samples * 255.0 / RULES[stored])
    return scaled if samples.ndim == 3 else scaled[..., None].repeat(3, axis=2)


@pytest.mark.parametrize("stored", [8, 12, 16])
@pytest.mark.parametrize("syntax", [UID, f"{UID}.1", f"{UID}.2"])
def test_plain_samples_of_each_byte_order(stored: int, syntax: str) -> None:
    samples = drawn(stored)
    data = dicom(samples.astype(">u2") if syntax.endswith(".2.2") and stored > 8 else samples, stored, syntax)
    if syntax.endswith(".2.2") and stored == 8:
        with pytest.raises(ImageInvalid, match="big-endian"):
            decode_image(data)
    else:
        assert np.array_equal(np.asarray(decode_image(data)), rule(samples, stored))


LOSSLESS = {
    "JPEG lossless": (f"{UID}.4.70", lambda samples, bits: imagecodecs.ljpeg_encode(samples, bitspersample=bits)),
    "JPEG 2000": (f"{UID}.4.90", lambda samples, bits: imagecodecs.jpeg2k_encode(samples, level=0, codecformat="j2k")),
    "RLE": (f"{UID}.5", lambda samples, bits: rle(samples)),
}


def rle(samples: np.ndarray) -> bytes:
    """The frame that PS3.5 annex G describes: a header of offsets, then a PackBits segment for each byte plane."""
    planes = samples.astype(f">u{samples.dtype.itemsize}").reshape(samples.size, 1).view(np.uint8)
    planes = planes.reshape(*samples.shape[:2], -1).transpose(2, 0, 1)
    segments = [imagecodecs.packbits_encode(np.ascontiguousarray(plane).tobytes()) for plane in planes]
    segments = [segment + bytes(len(segment) % 2) for segment in segments]
    starts = np.cumsum([64, *map(len, segments)])[:-1]
    header = np.zeros(16, "<u4")
    header[0], header[1 : 1 + len(segments)] = len(segments), starts
    return header.tobytes() + b"".join(segments)


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("stored", [8, 16])
def test_lossless_compression_of_grey_gives_the_samples(name: str, stored: int) -> None:
    syntax, encode = LOSSLESS[name]
    samples = drawn(stored)
    data = dicom(samples, stored, syntax, frame=encode(samples, stored))
    assert np.array_equal(np.asarray(decode_image(data)), rule(samples, stored))


@pytest.mark.parametrize("name", ["JPEG 2000", "RLE"])
def test_lossless_compression_of_colours_gives_the_samples(name: str) -> None:
    syntax, encode = LOSSLESS[name]
    samples = drawn(8, 3)
    data = dicom(samples, 8, syntax, frame=encode(samples, 8), PhotometricInterpretation="RGB")
    assert np.array_equal(np.asarray(decode_image(data)), samples)


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL_422", "MONOCHROME2"])
def test_jpeg_is_read_as_libjpeg_reads_it(photometric: str) -> None:
    samples = drawn(8, 1 if photometric == "MONOCHROME2" else 3)
    spaces = {"RGB": ("RGB", "RGB"), "YBR_FULL_422": ("RGB", "YCBCR"), "MONOCHROME2": (None, None)}[photometric]
    frame = imagecodecs.jpeg8_encode(samples, 95, colorspace=spaces[0], outcolorspace=spaces[1])
    data = dicom(samples, 8, f"{UID}.4.50", frame=frame, PhotometricInterpretation=photometric)
    expected = rule(imagecodecs.jpeg8_decode(frame, outcolorspace=None if spaces[0] is None else "RGB"), 8)
    assert np.array_equal(np.asarray(decode_image(data)), expected)


LOSSLESS_COLOUR = {
    "JPEG lossless": (
        f"{UID}.4.70",
        lambda samples: imagecodecs.jpeg8_encode(samples, lossless=True, colorspace="RGB", outcolorspace="RGB"),
    ),
    "JPEG 2000": (f"{UID}.4.90", lambda samples: imagecodecs.jpeg2k_encode(samples, level=0, codecformat="j2k", mct=0)),
    "RLE": (f"{UID}.5", lambda samples: rle(samples)),
}


@pytest.mark.parametrize("name", LOSSLESS_COLOUR)
def test_ybr_becomes_rgb_whatever_the_compression(name: str) -> None:
    syntax, encode = LOSSLESS_COLOUR[name]
    samples = drawn(8, 3)
    data = dicom(samples, 8, syntax, frame=encode(samples), PhotometricInterpretation="YBR_FULL")
    y, blue, red = (samples[..., i].astype(float) for i in range(3))  # PS3.3 C.7.6.3.1.2, solved for RGB
    rgb = (y + 1.402 * (red - 128), y - 0.344136 * (blue - 128) - 0.714136 * (red - 128), y + 1.772 * (blue - 128))
    found = np.asarray(decode_image(data)).astype(float)
    assert np.abs(found - np.stack(rgb, axis=2).clip(0, 255)).max() <= 1


@pytest.mark.parametrize("bits", [8, 12])
def test_a_jpeg_that_lost_its_end_is_refused_and_not_filled(bits: int) -> None:
    frame = imagecodecs.jpeg8_encode(drawn(bits), 95, bitspersample=bits)
    syntax = f"{UID}.4.{50 if bits == 8 else 51}"
    assert decode_image(dicom(drawn(bits), bits, syntax, frame=frame)).size == (30, 24)
    with pytest.raises(ImageInvalid, match="Fix: send the whole file"):
        decode_image(dicom(drawn(bits), bits, syntax, frame=frame[:-200]))


@pytest.mark.parametrize("name", LOSSLESS)
def test_a_frame_of_another_size_or_cut_is_refused(name: str) -> None:
    syntax, encode = LOSSLESS[name]
    frame = encode(drawn(8), 8)
    for rows in (23, 25):
        with pytest.raises(ImageError):
            decode_image(dicom(np.zeros((rows, 31), np.uint8), 8, syntax, frame=frame))
    with pytest.raises(ImageError):
        decode_image(dicom(drawn(8), 8, syntax, frame=frame[: len(frame) // 2]))


@pytest.mark.parametrize(
    ("syntax", "words"), [(f"{UID}.4.102", "MPEG-4"), (f"{UID}.4.201", "High-Throughput"), (f"{UID}.4.80", "JPEG-LS")]
)
def test_other_transfer_syntaxes_are_refused_by_name(syntax: str, words: str) -> None:
    with pytest.raises(ImageInvalid, match=f"transfer syntax .*{words}.* Fix: export it from your viewer as PNG"):
        decode_image(dicom(drawn(8), 8, syntax, frame=b"\0\1"))
