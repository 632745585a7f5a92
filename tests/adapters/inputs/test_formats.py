"""What bytes are, by their content: each format has its name in the message, and a way out."""

from __future__ import annotations

import base64
import io
import zipfile
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lensmount_adapters import decode_image
from lensmount_adapters.errors import ImageUnsupported
from lensmount_adapters.inputs.formats import IMAGE_SUFFIXES, recognise

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8))


def saved(kind: str) -> bytes:
    buffer = io.BytesIO()
    IMAGE.save(buffer, kind)
    return buffer.getvalue()


def box(brand: bytes, *compatible: bytes) -> bytes:
    body = b"ftyp" + brand + bytes(4) + b"".join(compatible)
    return (len(body) + 4).to_bytes(4, "big") + body + bytes(100)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.png", saved("PNG"))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "AVIF"])
def test_what_pillow_writes_is_recognised(kind: str) -> None:
    assert recognise(saved(kind)).name == kind


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (box(b"heic", b"mif1"), "HEIF"),
        (box(b"mif1", b"heic"), "HEIF"),
        (box(b"mif1", b"avif"), "AVIF"),
        (bytes(128) + b"DICM" + bytes(99), "DICOM"),
        (b"\xff\x4f\xff\x51" + bytes(99), "JPEG2000"),
        (b"MM\0+" + bytes(99), "TIFF"),
    ],
)
def test_other_formats_that_are_read_are_recognised(data: bytes, name: str) -> None:
    assert recognise(data).name == name


UNSUPPORTED: dict[str, tuple[bytes, str]] = {
    "PDF": (b"%PDF-1.7\n" + bytes(99), "a PDF"),
    "SVG": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
    "bare SVG": (b"<svg/>", "an SVG drawing"),
    "HTML": (b"\n<!DOCTYPE html><html>", "an HTML page"),
    "JSON": (b'{"detail": "Not authenticated"}', "JSON text"),
    "text": (b"hello, this is not an image", "text"),
    "data URL": (b"data:image/png;base64,iVBORw0KGgo=", "a data URL"),
    "base64": (base64.b64encode(saved("JPEG")), "base64 text of a JPEG"),
    "Photoshop": (b"8BPS\0\1" + bytes(99), "a Photoshop file"),
    "CR2": (b"II*\0\x10\0\0\0CR\x02\0" + bytes(99), r"a raw photo \(Canon CR2\)"),
    "CR3": (box(b"crx "), r"a raw photo \(Canon CR3\)"),
    "RAF": (b"FUJIFILMCCD-RAW 0201" + bytes(99), r"a raw photo \(Fujifilm RAF\)"),
    "ORF": (b"IIRO\x08\0\0\0" + bytes(99), r"a raw photo \(Olympus ORF\)"),
    "MP4": (box(b"isom", b"mp41"), "a video"),
    "MOV": (box(b"qt  "), "a video"),
    "WebM": (b"\x1aE\xdf\xa3" + bytes(99), "a video"),
    "AVI": (b"RIFF\0\0\0\0AVI LIST", "a video"),
    "zip": (zipped(), "a zip file"),
    "CZI": (b"ZISRAWFILE" + bytes(99), "a Zeiss CZI microscope file"),
    "ND2": (b"\xda\xce\xbe\x0a" + bytes(99), "a Nikon ND2 microscope file"),
    "LIF": (b"\x70\0\0\0" + bytes(99), "a Leica LIF microscope file"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file"),
    "JPEG XL": (b"\xff\x0a" + bytes(99), "a JPEG XL image"),
    "JPEG-LS": (b"\xff\xd8\xff\xf7" + bytes(99), "a JPEG-LS image"),
    "EXR": (b"\x76\x2f\x31\x01" + bytes(99), "an OpenEXR image"),
    "icon": (saved("ICO"), "a Windows icon"),
    "PPM": (saved("PPM"), "a Netpbm image"),
    "AppleDouble": (b"\0\x05\x16\x07" + bytes(99), "a macOS side file"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    "zeros": (bytes(4000), "4000 zero bytes"),
    "PNG as text": (saved("PNG").replace(b"\r\n", b"\n"), "a PNG that was changed by a transfer as text"),
    "BM text": (b"BMW is a maker of cars, and no image here", "text"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_a_format_that_is_not_read_is_named_with_a_way_out(name: str) -> None:
    data, words = UNSUPPORTED[name]
    with pytest.raises(ImageUnsupported, match=rf"found {words}.*, expected a PNG, JPEG.* Fix: \w+"):
        decode_image(data)


def test_the_way_out_of_encoded_text_works() -> None:
    text = base64.b64encode(saved("PNG"))
    for whole, part in ((b"data:image/png;base64," + text, 1), (text, 0)):
        with pytest.raises(ImageUnsupported, match="base64"):
            decode_image(whole)
        found = decode_image(base64.b64decode(whole.split(b",")[part]))
        assert found.tobytes() == IMAGE.tobytes()


@pytest.mark.parametrize("kind", ["ICO", "PPM", "TGA"])
def test_the_way_out_of_converting_to_png_works(kind: str) -> None:
    data: Any = saved(kind)
    with pytest.raises(ImageUnsupported, match="Fix: convert the file to PNG"):
        decode_image(data)
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).save(buffer, "PNG")
    assert decode_image(buffer.getvalue()).size == Image.open(io.BytesIO(data)).size


def test_the_content_decides_and_every_suffix_is_in_lower_case() -> None:
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in IMAGE_SUFFIXES)
    assert {".png", ".bmp", ".jfif", ".heic", ".dcm", ".jp2"} < set(IMAGE_SUFFIXES)
