"""TIFF masks that Pillow does not know, and stacks that look like one page."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from lensmount_adapters.errors import DatasetError
from lensmount_adapters.inputs.images import ImageLimits
from lensmount_adapters.masks.file import Frame, read_mask
from lensmount_adapters.masks.tiff import stated_slices, tiff_values

tifffile: Any = pytest.importorskip("tifffile", reason="the extra 'volumes' is not installed")

SHAPE = np.zeros((24, 32), bool)
SHAPE[4:20, 6:10] = SHAPE[16:20, 6:22] = True


def tiff(values: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **({"photometric": "minisblack"} | options))
    return file.getvalue()


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        (np.uint8, {}),
        (np.float64, {}),
        (np.uint16, {"imagej": True}),
        (np.uint8, {"truncate": True}),
        (np.int64, {"truncate": True}),
        (np.uint8, {"volumetric": True, "tile": (16, 16, 16)}),
        (np.float64, {"volumetric": True, "tile": (16, 16, 16)}),
    ],
    ids=["pages", "pages of float64", "ImageJ", "one page", "one page of int64", "depth", "depth of float64"],
)
def test_a_stack_is_refused_with_its_number_and_the_page_of_the_advice_is_read(
    dtype: type, options: dict[str, Any]
) -> None:
    stack: np.ndarray = np.stack([SHAPE & False, *[SHAPE] * 4]).astype(dtype)

    with pytest.raises(DatasetError, match=r"of 5 pages, expected a mask of one page\. Fix: save the page"):
        read_mask(tiff(stack, **options), Frame((32, 24), 1), 1)
    assert (read_mask(tiff(stack[2]), Frame((32, 24), 1), 1).labels[0] == SHAPE).all()


def test_slices_are_read_from_descriptions() -> None:
    assert stated_slices("ImageJ=1.54f\nimages=7\nslices=7\nloop=false\n") == 7
    assert stated_slices('{"shape": [3, 24, 32], "truncated": true}') == 3
    for text in (
        "",
        "a mask of images=9",
        "ImageJ=1.54f\nunit=pixel",
        '{"shape": [24, 32, 3]}',
        '{"shape": [3, 24, 32]}',
    ):
        assert stated_slices(text) == 1


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.float16, np.float64])
@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_values_are_read_as_stored(dtype: type, orientation: int, compression: str | None) -> None:
    data = tiff(SHAPE.astype(dtype), compression=compression, extratags=[(274, "H", 1, orientation)])

    values, found, lossy = tiff_values(data, ImageLimits())

    assert values.dtype == dtype
    assert (values == SHAPE).all()
    assert (found, lossy) == (orientation, False)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: tiff(SHAPE.astype(np.complex64)), "complex64 values.*Fix: save a grey PNG"),
        (lambda: tiff(SHAPE.astype(np.int64))[:-100], "Fix: "),
        (lambda: tiff(SHAPE.astype(np.int64), photometric="miniswhite"), "white is 0.*Fix: save it as a grey PNG"),
        (lambda: tiff(np.zeros((1, 20_000), np.int64)), "20000 x 1, expected at most .* 16384 per side. Fix: scale"),
    ],
    ids=["complex", "cut", "white is zero", "too long"],
)
def test_what_cannot_be_read_is_refused_with_a_fix(data: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        tiff_values(data(), ImageLimits())


@pytest.mark.parametrize("dtype", [np.uint8, np.float64, np.int64])
def test_a_damaged_tiff_is_read_or_refused_with_a_fix_and_no_other_error(dtype: type) -> None:
    data, random, messages = tiff(SHAPE.astype(dtype)), np.random.default_rng(0), list[str]()
    for place in range(4, 260):
        for value in (0, int(random.integers(1, 256))):
            damaged = data[:place] + bytes([value]) + data[place + 1 :]
            try:
                read_mask(damaged, Frame((32, 24), 1), 1)
            except DatasetError as error:
                messages.append(str(error))

    assert all("Fix: " in message for message in messages)
    assert (
        any("pixels are missing" in message for message in messages) or dtype is np.uint8
    )  # Pillow reads uint8 and refuses such a file itself
