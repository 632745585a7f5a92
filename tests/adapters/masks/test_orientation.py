"""A mask is turned exactly as an image with the same bytes is, wherever the file states its orientation."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lensmount_adapters.inputs.images import decode_image
from lensmount_adapters.masks.file import frame_of, read_mask


def with_orientation(values: np.ndarray, where: str, orientation: int) -> bytes:
    exif, texts = Image.Exif(), PngInfo()
    exif[274] = orientation
    options: dict[str, Any] = {"exif": exif} if where == "exif" else {"pnginfo": texts}
    if where == "XMP":
        texts.add_itxt("XML:com.adobe.xmp", f'<rdf:Description tiff:Orientation="{orientation}"/>')
    elif where == "ImageMagick":
        texts.add_text("Raw profile type exif", f"\nexif\n{len(exif.tobytes()):8}\n{exif.tobytes().hex()}\n")
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG", **options)
    return file.getvalue()


@pytest.mark.parametrize("where", ["exif", "ImageMagick", "XMP"])
@pytest.mark.parametrize("orientation", [2, 6, 7])
def test_an_orientation_counts_wherever_images_read_it(where: str, orientation: int) -> None:
    values = np.zeros((12, 20), np.uint8)
    values[2:5, 3:11] = 255
    data = with_orientation(values, where, orientation)
    upright = {2: values[:, ::-1], 6: np.rot90(values, -1), 7: np.rot90(values, 2).T}[orientation]  # EXIF 2.32, 4.6.5

    found = frame_of(data)

    assert found is not None
    assert (found.size, found.orientation) == (upright.shape[::-1], orientation)
    assert np.array_equal(read_mask(data, found, 1).labels[0], upright > 0)
    assert np.array_equal(np.asarray(decode_image(data))[..., 0], upright)
