"""Read one mask file: its stored values, turned as its image is, and the object told from the ringing of a JPEG.

Values are taken as stored: the indices of a palette, not its colours; 2-bit and 4-bit greys, not scaled to 255.
A file whose values cannot be known is refused with what it is and a way out.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from lensmount_adapters.errors import DatasetError, ImageError
from lensmount_adapters.inputs.formats import recognise
from lensmount_adapters.inputs.images import ImageLimits, stated_orientation
from lensmount_adapters.inputs.limits import above_pillow
from lensmount_adapters.inputs.png import check_png_is_complete
from lensmount_adapters.masks.colours import VOID, Colours
from lensmount_adapters.masks.tiff import (
    BITS,
    COMPRESSION,
    DEPTH,
    DESCRIPTION,
    LOSSY,
    ORIENTATION,
    PHOTOMETRIC,
    SAMPLE_FORMAT,
    SAMPLES,
    SIGNED,
    SUBFILE,
    check_size,
    stated_slices,
    tiff_values,
    white_is_zero,
)
from lensmount_adapters.masks.values import objects_of, opaque, single_channel, without_ignored

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "JPEG2000", "AVIF")
MAX_TEXT_BYTES = 1 << 16  # of a PNG; one of this length may hold an orientation


@dataclass(frozen=True, slots=True)
class Frame:
    """How an image is shown: its size (width, height) after its EXIF orientation (1 to 8) is applied."""

    size: tuple[int, int]
    orientation: int


@dataclass(frozen=True, slots=True)
class Mask:
    """bool [labels, height, width]. `thresholded` if in-between values of a JPEG or a resized mask were divided.

    `ignored`, bool [height, width], are pixels that count as nothing; None if there are none. They have no label.
    """

    labels: np.ndarray
    thresholded: bool = False
    ignored: np.ndarray | None = None

    def counted(self, predicted: np.ndarray) -> np.ndarray:
        """What counts of predicted masks, bool [labels, height, width]: all but the ignored pixels."""
        return predicted if self.ignored is None else predicted & ~self.ignored

    def joined(self, other: Mask) -> Mask:
        """The mask of two files of one image. A pixel is ignored if one of them says so and none has a label there."""
        labels, marks = self.labels | other.labels, [m for m in (self.ignored, other.ignored) if m is not None]
        ignored = np.logical_or.reduce(marks) & ~labels.any(0) if marks else None
        return Mask(labels, self.thresholded or other.thresholded, ignored)


@dataclass(frozen=True, slots=True)
class _Stored:
    """The values [height, width], or [height, width, channels], turned by the file's own orientation."""

    values: np.ndarray
    orientation: int
    lossy: bool
    what: str
    palette: np.ndarray | None = None  # [colours, 3]


def frame_of(data: bytes) -> Frame | None:
    """Read the frame from the header of an image file. None if Pillow does not know the format."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(_without_texts(data))) as image:
                turned = stated_orientation(data)
                swapped = turned >= 5 and image.format != "TIFF"  # Pillow states the turned size of a TIFF
                return Frame(image.size[::-1] if swapped else image.size, turned)
    except MemoryError:
        raise
    except Exception:  # the decoder of images says what is wrong with the file
        return None


def read_mask(
    data: bytes, frame: Frame, labels: int, colours: Colours | None = None, limits: ImageLimits | None = None
) -> Mask:
    """Read the masks of `labels` labels for an image with this frame. With `colours` the colours are the labels.

    Of `limits`, which are those of images, the pixels and the sides count. Raises DatasetError, without the file's
    name, if the file is no mask, does not fit or has values without a label.
    """
    stored = _stored(data, limits or ImageLimits())
    if colours is not None:
        values = _turned_as_image(_labels_of_colours(stored, colours), stored, frame)
        void = values == VOID
        return Mask(values[None] == np.arange(1, labels + 1)[:, None, None], ignored=void if void.any() else None)
    values = single_channel(stored.values, stored.what, lossy=stored.lossy)
    values = _turned_as_image(values, stored, frame)
    indexed = stored.palette is not None
    if stored.palette is not None:
        _check_palette(values, stored.palette)
        if labels == 1 and (greys := _greys(values, stored.palette)) is not None:
            values, indexed = greys, False
    values, ignored = (values, None) if stored.lossy else without_ignored(values, labels)
    objects, thresholded = objects_of(values, labels, stored.what, lossy=stored.lossy, indexed=indexed)
    return Mask(objects, thresholded, ignored)


def _labels_of_colours(stored: _Stored, colours: Colours) -> np.ndarray:
    """The number of the label [height, width] of each pixel. A grey value is the colour of three equal channels."""
    values = stored.values
    if stored.lossy:
        raise DatasetError(
            f"found {stored.what}, which changes colours a little, expected the colours of {colours.file}. "
            "Fix: export the masks as PNG"
        )
    if stored.palette is not None:
        padded = np.zeros((256, 3), np.uint8)
        padded[: len(stored.palette)] = stored.palette
        return colours.values(padded[values])
    if values.ndim == 3:
        values = opaque(values, stored.what)
    if values.dtype.kind not in "ui" or values.min(initial=0) < 0 or values.max(initial=0) > 255:
        raise DatasetError(
            f"found {stored.what} of {values.dtype} values up to {values.max():g}, expected the 8-bit colours of "
            f"{colours.file}. Fix: remove {colours.file} if the values are the numbers of labels"
        )
    if values.ndim == 2:
        values = values[..., None]
    return colours.values(np.broadcast_to(values, (*values.shape[:2], 3)))


def _left_in_tiff(image: Image.Image) -> int:
    """The orientation by which a loaded TIFF is still to be turned: 1 if Pillow has turned it."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except MemoryError:
        raise
    except Exception:  # odd tags may raise anything; they must not cost the mask
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def turn(values: np.ndarray, orientation: int) -> np.ndarray:
    """Show pixels [height, width, ...] upright, as the EXIF orientation says."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values[:, ::-1] if orientation in (2, 3, 6, 7) else values


def _turned_as_image(values: np.ndarray, stored: _Stored, frame: Frame) -> np.ndarray:
    """Apply the image's orientation to a mask that states none, if only this fits."""
    width, height = frame.size
    if stored.orientation == 1 and frame.orientation != 1:
        turned = turn(values, frame.orientation)
        fits, fits_turned = values.shape == (height, width), turned.shape == (height, width)
        if fits and fits_turned and not np.array_equal(values, turned):
            raise DatasetError(
                f"found {stored.what} without an EXIF orientation, but its image has the orientation "
                f"{frame.orientation}, and the mask fits the image both as stored and turned. Fix: save the image with "
                "its pixels turned and without EXIF (Pillow: ImageOps.exif_transpose) if the mask was drawn on the "
                "turned image; otherwise save the image without EXIF"
            )
        if fits_turned and not fits:
            values = turned
    if values.shape != (height, width):
        raise DatasetError(
            f"found {values.shape[1]} x {values.shape[0]} with 1 channel(s), expected one channel of {width} x "
            f"{height}, as in its image. Fix: export the mask in the size of its image"
        )
    return values


def _greys(values: np.ndarray, palette: np.ndarray) -> np.ndarray | None:
    """The greys of a palette of greys, as in a grey image saved as GIF. None if others are in use, or two blacks."""
    used = np.unique(values)
    if (
        used[-1] >= len(palette)
        or np.ptp(palette[used], axis=1).any()
        or ((palette[used, 0] == 0) != (used == 0)).any()
    ):
        return None
    return np.asarray(palette[:, 0][values])


def _check_palette(values: np.ndarray, palette: np.ndarray) -> None:
    """Refuse a palette in which black, the usual background, is in use with another index than 0."""
    used = np.unique(values)
    black = [int(index) for index in used if index < len(palette) and not palette[index].any()]
    if black and black[0] != 0 and (used[0] != 0 or palette[0].any()):
        colour = "#" + bytes(palette[0].tolist()).hex()
        raise DatasetError(
            f"found a palette in which index 0, the background, is {colour} and black is index {black[0]}: the file "
            "does not say which of them is background. Fix: save the mask as a grey PNG with 0 as background"
        )


def _stored(data: bytes, limits: ImageLimits) -> _Stored:
    if not data:
        raise DatasetError("found an empty file, expected a mask. Fix: export it again")
    orientation = stated_orientation(data)
    data = _without_texts(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata, and many pixels, which are checked here
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return _pixels(image, data, orientation, limits)
    except (DatasetError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise DatasetError(
            f"{above_pillow(error, limits.max_pixels)}. Fix: scale the image and its mask down"
        ) from error
    except UnidentifiedImageError as error:
        if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            values, orientation, lossy = tiff_values(data, limits)
            return _Stored(turn(values, orientation), orientation, lossy, "a TIFF")
        raise DatasetError(
            f"found {recognise(data).words}, which is not read as a mask, expected one value per pixel. "
            "Fix: export it as a grey PNG"
        ) from error
    except Exception as error:  # Pillow's plugins may raise anything on damaged bytes
        raise DatasetError(
            f"found a file that is not an image that can be decoded ({type(error).__name__}: {str(error)[:80]}), "
            "expected a mask. Fix: export it again, as a grey PNG"
        ) from error


def _pixels(image: Image.Image, data: bytes, orientation: int, limits: ImageLimits) -> _Stored:
    what = f"a {image.format}"
    check_size(image.size, limits)
    _check_frames(image, what)
    tags = _tiff_tags(image)
    _check_tags(image, data, tags)
    lossy = _is_lossy(image, data, tags)
    if image.format == "PNG" and image.mode not in ("LA", "RGBA"):
        _check_complete(data)
    image.load()
    left = _left_in_tiff(image) if image.format == "TIFF" else orientation
    palette = None
    if image.mode == "P" and image.palette is not None:
        palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    if image.mode not in ("1", "L", "P", "I", "F", "LA", "RGB", "RGBA", "PA") and not image.mode.startswith("I;16"):
        raise DatasetError(
            f"found {what} with {image.mode} colours, expected one value per pixel. Fix: save it as a grey PNG"
        )
    values = turn(_unscaled(np.array(image), image, data, tags), left)
    return _Stored(values, orientation, lossy, what, palette)


def _without_texts(data: bytes) -> bytes:
    """A PNG without colour profile, long texts and transparent indices, which do not matter. Others as they are."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    kept, position = [data[:8]], 8
    while position + 8 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        plain = data[position + 8 : end].partition(b"\0")[2][:1] == b"\0" and end - position < MAX_TEXT_BYTES
        if kind not in (b"iCCP", b"tEXt", b"zTXt", b"tRNS", b"iTXt") or (kind == b"iTXt" and plain):
            kept.append(data[position:end])
        position = end
    return b"".join(kept)


def _check_complete(data: bytes) -> None:
    """Refuse a PNG whose pixels are short or damaged, as for images: Pillow alone fills them with black."""
    try:
        check_png_is_complete(data)
    except ImageError as error:
        raise DatasetError(f"{error} (export the mask again)") from error


def _check_frames(image: Image.Image, what: str) -> None:
    """Refuse several pages, except for a phone's preview and the smaller copies of a TIFF's first page."""
    pages = getattr(image, "n_frames", 1)
    description = str(getattr(image, "tag_v2", {}).get(DESCRIPTION, ""))
    frames = max(pages, _tiff_tags(image).get(DEPTH, 1), stated_slices(description))
    if frames == 1 or image.format == "MPO":
        return
    if (
        image.format == "TIFF"
        and frames == pages
        and all(_is_smaller_copy(image, page) for page in range(1, min(frames, 64)))
    ):
        image.seek(0)
        return
    raise DatasetError(
        f"found {what} of {frames} pages, expected a mask of one page. Fix: save the page that is the mask as a file "
        "of its own. If each page is one object, save the pages in a folder named after the image: its masks are joined"
    )


def _is_smaller_copy(image: Image.Image, page: int) -> bool:
    image.seek(page)
    return bool(int(_tiff_tags(image).get(SUBFILE, 0)) & 1)


def _tiff_tags(image: Image.Image) -> dict[int, int]:
    tags = getattr(image, "tag_v2", {})
    found: dict[int, int] = {}
    for tag in (BITS, PHOTOMETRIC, COMPRESSION, SUBFILE, SAMPLES, SAMPLE_FORMAT, DEPTH):
        value = tags.get(tag)
        value = value[0] if isinstance(value, tuple) and value else value
        if isinstance(value, int):
            found[tag] = value
    return found


def _check_tags(image: Image.Image, data: bytes, tags: dict[int, int]) -> None:
    """Refuse what Pillow would change without a word: white-is-zero values, and 16 bits in several channels."""
    if image.format == "TIFF" and tags.get(PHOTOMETRIC) == 0:
        raise white_is_zero()
    if image.format == "TIFF" and tags.get(SAMPLES, 1) != len(image.getbands()):
        raise DatasetError(
            f"found a TIFF of {tags[SAMPLES]} channels that is read as {len(image.getbands())}, expected one value per "
            "pixel. Fix: save one channel, as a grey PNG; if each channel is one object, save the channels in a "
            "folder named after the image: its masks are joined"
        )
    bits = data[24] if image.format == "PNG" else tags.get(BITS, 8)
    if bits > 8 and image.mode in ("RGB", "RGBA", "LA"):
        raise DatasetError(
            f"found a {image.format} of {bits} bits with several channels, expected one value per pixel. "
            "Fix: save one channel, as a grey 8-bit or 16-bit PNG"
        )


def _is_lossy(image: Image.Image, data: bytes, tags: dict[int, int]) -> bool:
    if image.format == "TIFF":
        return tags.get(COMPRESSION) in LOSSY
    if image.format == "WEBP":
        return b"VP8L" not in data[12 : 1 << 16]  # the chunk of lossless pixels
    return image.format in ("JPEG", "MPO", "JPEG2000", "AVIF")


def _unscaled(values: np.ndarray, image: Image.Image, data: bytes, tags: dict[int, int]) -> np.ndarray:
    """Undo what Pillow does to whole numbers: it scales 2-bit and 4-bit greys, and reads all 32-bit ones as signed."""
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    bits = (data[24] if image.format == "PNG" else tags.get(BITS, 8)) if image.mode == "L" else 8
    if bits in (2, 4):
        values = (values // (255 // (2**bits - 1))).astype(np.uint8)
    signed = tags.get(SAMPLE_FORMAT) == SIGNED
    if image.format == "TIFF" and values.dtype == np.int32 and tags.get(BITS) == 32 and not signed:
        return values.view(np.uint32)
    if image.format == "TIFF" and values.dtype == np.uint8 and signed:
        values = values.view(np.int8)
    return values
