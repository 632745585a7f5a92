"""TIFF masks: the tags that tell what Pillow would read wrong, and a reader for the kinds that it does not know."""

from __future__ import annotations

import io
import re

import numpy as np

from lensmount_adapters.errors import DatasetError
from lensmount_adapters.inputs.images import ImageLimits
from lensmount_adapters.inputs.limits import pillow_pixels

SUBFILE, BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION, ORIENTATION = 254, 258, 259, 262, 270, 274
SAMPLES, SAMPLE_FORMAT, DEPTH = 277, 339, 32997
LOSSY = frozenset({6, 7, 34892, 50001, 50002})  # compressions: JPEG, old and new, lossy DNG, WebP, JPEG XL
SIGNED = 2  # a sample format


def check_size(size: tuple[int, int], limits: ImageLimits) -> None:
    """Raise DatasetError if a mask of this size (width, height) is over a limit of images."""
    if size[0] * size[1] > limits.max_pixels or max(size) > limits.max_side:
        way_out = "scale the image and its mask down"
        if max(size) <= limits.max_side and size[0] * size[1] <= pillow_pixels():
            way_out += ", or raise max_pixels of the training's config"
        raise DatasetError(
            f"found {size[0]} x {size[1]}, expected at most {limits.max_pixels} pixels and {limits.max_side} per side. "
            f"Fix: {way_out}"
        )


def white_is_zero() -> DatasetError:
    return DatasetError(
        "found a TIFF in which white is 0 (an inverting LUT of ImageJ, or a fax): it does not say whether black or "
        "white is the object. Fix: save it as a grey PNG in which the background is black (0)"
    )


def stated_slices(description: str) -> int:
    """How many slices a TIFF keeps behind one page, as ImageJ and tifffile describe large stacks; 1 if none."""
    text = description[:4096]
    stated = re.match(r"ImageJ=.*?^images=(\d{1,9})$", text, re.DOTALL | re.MULTILINE)
    if stated is None and '"truncated": true' in text:
        stated = re.search(r'"shape": \[(\d{1,9}), \d+, \d+', text)
    return int(stated[1]) if stated else 1


def tiff_values(data: bytes, limits: ImageLimits) -> tuple[np.ndarray, int, bool]:
    """Read a TIFF of a kind that Pillow does not know, such as the int64 labels of scikit-image, with tifffile.

    Returns the values [height, width] or [height, width, channels] as stored, the orientation (1 to 8), and whether the
    compression changes values. Raises DatasetError.
    """
    try:
        import tifffile
    except ModuleNotFoundError as error:
        raise DatasetError(
            "found a TIFF of a kind that Pillow does not read, such as 64-bit values. Fix: save it as a grey 8-bit or "
            '16-bit PNG, or pip install "lensmount[volumes]"'
        ) from error
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            pages = max(len(file.pages), page.imagedepth, stated_slices(page.description))
            check_size((page.imagewidth, page.imagelength), limits)
            if pages > 1:
                raise DatasetError(
                    f"found a TIFF of {pages} pages, expected a mask of one page. "
                    "Fix: save the page that is the mask as a file of its own"
                )
            if page.photometric == 0:
                raise white_is_zero()
            tag = page.tags.get(ORIENTATION)
            orientation = int(tag.value) if tag is not None and tag.value in range(1, 9) else 1
            values = page.asarray()
            if page.planarconfig == 2 and values.ndim == 3:
                values = values.transpose(1, 2, 0)
            lossy = int(page.compression) in LOSSY
    except (DatasetError, MemoryError):
        raise
    except Exception as error:  # damaged bytes may raise anything
        raise DatasetError(
            f"found a TIFF that cannot be decoded ({type(error).__name__}: {str(error)[:80]}), expected a mask. "
            "Fix: save it as a grey 8-bit or 16-bit PNG"
        ) from error
    if values.ndim not in (2, 3) or values.shape[:2] != (page.imagelength, page.imagewidth) or not values.size:
        raise DatasetError(
            f"found a TIFF of {page.imagewidth} x {page.imagelength} whose pixels are missing, expected a mask. "
            "Fix: export it again, as a grey 8-bit or 16-bit PNG"
        )
    if values.dtype.kind not in "uif":
        raise DatasetError(f"found a TIFF of {values.dtype} values, expected whole numbers. Fix: save a grey PNG")
    return values, orientation, lossy
