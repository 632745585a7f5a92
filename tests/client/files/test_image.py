from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lensmount_client import InvalidInput
from lensmount_client._files.image import image_bytes


def decoded(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def test_paths_bytes_and_open_files_are_sent_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "cell.png"
    path.write_bytes(b"pixels")
    with path.open("rb") as file:
        for source in (path, str(path), b"pixels", bytearray(b"pixels"), memoryview(b"pixels"), file):
            assert image_bytes(source) == b"pixels"


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (4, 6, 3), (4, 6, 4)])
def test_an_array_comes_back_from_its_png_bit_for_bit(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    again = np.asarray(decoded(image_bytes(array)))
    assert np.array_equal(again, array.squeeze(-1) if shape[-1] == 1 else array)


@pytest.mark.parametrize(("shape", "dtype"), [((9, 6, 5), "uint8"), ((3, 6, 5), "int16"), ((2, 6, 5, 3), "float32")])
def test_an_array_of_slices_is_sent_as_npy(shape: tuple[int, ...], dtype: str) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)

    found = np.load(io.BytesIO(image_bytes(array)), allow_pickle=False)

    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


def test_an_array_of_slices_that_are_not_numbers_is_refused() -> None:
    with pytest.raises(InvalidInput, match="complex64, expected whole or floating-point"):
        image_bytes(np.zeros((9, 6, 5), np.complex64))


def test_a_view_with_odd_strides_is_encoded_as_it_looks() -> None:
    array = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)[::-1, ::2]
    assert np.array_equal(np.asarray(decoded(image_bytes(array))), array)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_a_pil_image_keeps_its_mode_and_pixels(mode: str) -> None:
    image = Image.fromarray(np.arange(75, dtype=np.uint8).reshape(5, 5, 3)).convert(mode)
    again = decoded(image_bytes(image))
    assert (again.mode, again.tobytes()) == (mode, image.tobytes())


def test_the_orientation_is_sent_and_the_other_exif_tags_are_not() -> None:
    image = Image.new("RGB", (4, 2))
    image.getexif()[0x0112] = 6
    image.getexif()[0x010F] = "Secret Camera"
    assert dict(decoded(image_bytes(image)).getexif()) == {0x0112: 6}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((4, 4, 3)), "float64, expected uint8"),
        (np.zeros((4, 4, 3), np.int16), "int16"),
        (np.zeros((3, 8, 8), np.uint8), r"transpose\(1, 2, 0\)"),
        (np.zeros((4, 4, 2), np.uint8), r"shape \(4, 4, 2\)"),
        (np.zeros((2, 4, 4, 3), np.uint8), "shape"),
        (np.zeros((0, 4, 3), np.uint8), "shape"),
        (np.zeros(4, np.uint8), "shape"),
        (Image.new("F", (2, 2)), "32-bit pixels"),
        (Image.new("RGB", (0, 2)), "pixels"),
        (b"", "empty"),
        (io.BytesIO(), "empty"),
        (io.StringIO("text"), "'rb'"),
        (42, "found int"),
        (None, "found NoneType"),
    ],
)
def test_inputs_that_cannot_be_sent_are_named_with_the_fix(source: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        image_bytes(source)


def test_files_that_cannot_be_sent_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "pipe.png")
    for name, message in {"": "folder", "none.png": "no such", "empty.png": "empty", "pipe.png": "regular"}.items():
        with pytest.raises(InvalidInput, match=message):
            image_bytes(tmp_path / name)
    with pytest.raises(InvalidInput, match="cannot be read"):
        image_bytes("nul\0.png")


def test_a_closed_file_and_a_broken_lazy_image_are_input_errors(tmp_path: Path) -> None:
    closed = io.BytesIO(b"x")
    closed.close()
    with pytest.raises(InvalidInput, match="cannot be read"):
        image_bytes(closed)
    whole = image_bytes(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    with pytest.raises(InvalidInput, match="cannot be encoded"):
        image_bytes(decoded(whole[: len(whole) // 2]))


@pytest.mark.parametrize(
    ("url", "fix"),
    [
        ("https://example.com/cell.png", r"found a URL \(https:...\), .*Fix: fetch it, then give its bytes: httpx.get"),
        ("HTTP://example.com/cell.png", r"found a URL \(http:...\)"),
        ("s3://bucket/cell.png", r"found a URL \(s3:...\), .*Fix: download it"),
        ("file:///cells/cell.png", r"found a URL \(file:...\), .*Fix: download it, then give its path"),
        ("data:image/png;base64,AAAA", r"found a URL \(data:...\), .*base64.b64decode"),
    ],
)
def test_a_url_is_refused_with_the_way_out(url: str, fix: str) -> None:
    with pytest.raises(InvalidInput, match=fix):
        image_bytes(url)


def test_a_data_url_is_read_as_its_error_advises() -> None:
    text = "data:image/png;base64," + base64.b64encode(b"pixels").decode()
    assert image_bytes(base64.b64decode(text.partition(",")[2])) == b"pixels"


def test_a_path_with_a_colon_is_no_url(tmp_path: Path) -> None:
    (tmp_path / "plate:3.png").write_bytes(b"pixels")
    assert image_bytes(str(tmp_path / "plate:3.png")) == b"pixels"
