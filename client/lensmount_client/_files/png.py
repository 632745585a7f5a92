"""PIL images and arrays as PNG: the server sees the pixels of their file, or they are refused with a way out."""

from __future__ import annotations

import io
import re
import struct
import zlib
from typing import Any

from lensmount_client._errors import InvalidInput

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")  # PNG stores these without loss
CONVERTED = {"CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB", "RGBX": "RGB"} | {
    "PA": "RGBA",
    "La": "LA",
    "RGBa": "RGBA",
}  # as the server converts them after it has decoded the file
ORIENTATION = 0x0112  # the EXIF tag that says which way is up
_XMP = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([0-9])")  # as the server looks for it
MAPPED = ("L", "P", "RGBX", "RGBA", "CMYK", "I;16", "I;16L", "I;16B")  # modes of files that PIL maps into memory
_SHAPES = (1, 3, 4)  # the channels of an array
_SEND_PATH = "send the file itself: predict(path) or predict(bytes)"
_TO_8_BITS = "numpy.interp(array, (array.min(), array.max()), (0, 255)).round().astype('uint8')"
_WITH_GAPS = "numpy.interp(array, (numpy.nanmin(array), numpy.nanmax(array)), (0, 255))"  # NaN stays NaN
_FLOATS_TO_8_BITS = f"numpy.nan_to_num({_WITH_GAPS}).round().astype('uint8')"
_COMPLEX_TO_8_BITS = _TO_8_BITS.replace("array", "numpy.abs(array)")


def png_of_image(image: Any) -> bytes:
    """Encode a PIL image as PNG, keeping its orientation. Raises InvalidInput."""
    if 0 in image.size:
        raise InvalidInput(f"image: found {image.width} x {image.height} pixels, expected at least one")
    lost = _lost_by_pil(image)
    if lost:
        raise InvalidInput(f"image: found a PIL image from {lost}. Fix: {_SEND_PATH}")
    buffer = io.BytesIO()
    try:
        image.load()  # a TIFF is turned only now, and then says so in its orientation tag
        orientation = _orientation(image)
        _in_a_mode_of_png(image).save(buffer, "PNG", **orientation)
    except InvalidInput:
        raise
    except (OSError, ValueError, SyntaxError) as error:  # PIL decodes only now and may find that the file is damaged
        raise InvalidInput(f"image: the PIL image cannot be encoded ({error}). Fix: {_SEND_PATH}") from error
    return buffer.getvalue()


def png_of_array(array: Any) -> bytes:
    """Encode an array of uint8, uint16 or bool as PNG of 8 or 16 bits. Raises InvalidInput."""
    if array.dtype.name not in ("uint8", "uint16", "bool"):
        scaled = {"f": _FLOATS_TO_8_BITS, "c": _COMPLEX_TO_8_BITS}.get(array.dtype.kind, _TO_8_BITS)
        floats = ", or for floats in 0..1, (array * 255).round().astype('uint8')" if array.dtype.kind == "f" else ""
        raise InvalidInput(
            f"image: found an array of {array.dtype.name}, expected uint8 in 0..255 or uint16 in 0..65535. "
            f"Fix: choose the range that should be seen, for example {scaled}{floats}"
        )
    if array.ndim == 3 and array.shape[0] in _SHAPES and array.shape[2] not in _SHAPES:
        raise InvalidInput(f"image: found shape {array.shape}, expected channels last. Fix: array.transpose(1, 2, 0)")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in _SHAPES) or 0 in array.shape:
        raise InvalidInput(f"image: found shape {array.shape}, expected [H, W], [H, W, 3] or [H, W, 4]")
    array = array[..., None] if array.ndim == 2 else array
    if array.dtype.name == "bool":
        array = array.astype("uint8") * 255
    return _png(array)


def _png(array: Any) -> bytes:
    """Write [H, W, 1, 3 or 4] as the PNG specification says: rows of big-endian samples, each behind a filter byte."""
    height, width, channels = array.shape
    bits = 8 * array.dtype.itemsize
    rows = array.astype(f">u{bits // 8}").reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    colour = {1: 0, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(raw, 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def _in_a_mode_of_png(image: Any) -> Any:
    if image.mode in MODES:
        return image
    if image.mode in CONVERTED:
        return image.convert(CONVERTED[image.mode])
    if image.mode.startswith("I;16"):  # another byte order
        return image.convert("I;16") if image.mode != "I;16B" else _swapped(image)
    if image.mode == "I" and image.format == "PNG":  # older versions of PIL open a 16-bit PNG so
        return image.convert("I;16")
    scaled = _FLOATS_TO_8_BITS if image.mode == "F" else _TO_8_BITS
    bits = "32-bit pixels" if image.mode in ("I", "F") else "pixels"
    raise InvalidInput(
        f"image: found a PIL image of {bits} (mode {image.mode}), expected one of {', '.join((*MODES, *CONVERTED))}. "
        f"Fix: choose the range that should be seen, for example {scaled.replace('array', 'numpy.asarray(image)')}"
    )


def _swapped(image: Any) -> Any:
    from PIL import Image

    raw = bytearray(image.tobytes())
    raw[::2], raw[1::2] = raw[1::2], raw[::2]
    return Image.frombytes("I;16", image.size, bytes(raw))


def _orientation(image: Any) -> dict[str, Any]:
    """Only the EXIF tag that changes how the image is shown; the others may be private. An odd block counts as none."""
    try:
        orientation = image.getexif().get(ORIENTATION)
    except Exception:  # PIL may raise anything on odd EXIF, which the server passes over too
        orientation = None
    if orientation is None:
        xmp = image.info.get("xmp") or b""
        found = _XMP.search(xmp if isinstance(xmp, bytes) else xmp.encode("utf-8", "replace"))
        orientation = int(found[1]) if found else None
    if orientation is None or (image.format == "AVIF" and "exif" not in image.info):  # boxes alone turn an AVIF
        return {}
    from PIL import Image

    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return {"exif": exif}


def _lost_by_pil(image: Any) -> str:
    """Say what PIL has lost or left open while it read the image's file, or "" if its pixels are those of the file."""
    kind = getattr(image, "format", None)  # None for images that were drawn, copied or converted
    if kind == "TIFF":
        return _lost_of_tiff(image)
    if kind == "PNG":
        head = _head(image, 29)
        clear = image.info.get("transparency")  # the samples of a transparent colour keep their 16 bits
        is_deep = head[12:16] == b"IHDR" and head[24] == 16 and head[25] != 0
        if is_deep or (isinstance(clear, tuple) and max(clear) > 255):
            return "a 16-bit PNG, of which PIL keeps the high byte"
        if image.mode in ("1", "L") and "transparency" in image.info and head[12:16] == b"IHDR" and head[24] < 8:
            return "a PNG of less than 8 bits, whose transparent grey PIL does not scale"
    if kind == "BMP" and _head(image, 30)[28:30] == b"\x10\0":
        return "a BMP of 16 bits, whose colours PIL rounds down"
    if kind == "GIF" and getattr(image, "dispose_extent", (0, 0, *image.size)) != (0, 0, *image.size):
        return "a GIF whose frame covers a part of it, of which PIL fills the rest with a colour"
    if kind == "WEBP" and _is_part_of_webp(image):
        return "a WebP whose frame covers a part of it, of which PIL fills the rest with black"
    if kind in ("HEIF", "AVIF") and _is_deep(image):
        return "a photo of 10 or 12 bits, which PIL cuts to 8"
    if kind == "JPEG2000":
        head = _head(image, 65_536)
        size = head.find(b"\xff\x4f\xff\x51")
        if image.mode == "I;16" or (0 <= size < len(head) - 43 and head[size + 42] & 0x7F > 7):
            return "a JPEG 2000 file of more than 8 bits, which PIL shifts"
    return ""


def _lost_of_tiff(image: Any) -> str:
    tags = getattr(image, "tag_v2", None) or {}
    depths = set(tags.get(258, (1,)))
    photometric, formats = tags.get(262, 1), set(tags.get(339, (1,)))
    if not formats <= {1, 4}:
        return ""  # of modes I and F, which are refused by name
    if photometric == 0 and depths & {16}:
        return "a TIFF in which 0 is white, which PIL does not invert at 16 bits"
    if not depths <= {1, 2, 4, 8} and (depths != {16} or photometric != 1 or not image.mode.startswith("I;16")):
        return f"a TIFF of {', '.join(map(str, sorted(depths)))} bits, which PIL cuts or does not scale"
    if _is_turned_incorrectly(image):
        return "a TIFF with an orientation tag, which PIL turns incorrectly while it maps the file into memory"
    if photometric == 3 and any(value % 257 for value in tags.get(320, ())):
        return "a TIFF palette of 16-bit colours, of which PIL keeps the high byte"
    return ""


def _is_turned_incorrectly(image: Any) -> bool:
    """True for a plain TIFF that was opened by its path and lies on its side: PIL then mixes up rows and columns."""
    if not getattr(image, "filename", "") or image.mode not in MAPPED:
        return False
    from PIL import Image

    try:
        with Image.open(image.filename) as again:  # the tag of `image` itself is gone once it is loaded
            return again.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8) and again.tile[0][0] == "raw"
    except (OSError, ValueError, SyntaxError, IndexError):
        return False


def _is_part_of_webp(image: Any) -> bool:
    """True for a WebP animation of one frame without an alpha flag that is smaller than its canvas, or has an alpha."""
    head = _head(image, 65_536)
    frame = head.find(b"ANMF")
    if head[12:16] != b"VP8X" or len(head) < 30 or head[20] & 0x12 != 0x02 or image.n_frames > 1:
        return False
    covers = head[frame + 8 : frame + 14] == bytes(6) and head[frame + 14 : frame + 20] == head[24:30]
    return frame < 0 or not covers or head[frame + 24 : frame + 28] == b"ALPH" or _has_alpha(head[frame + 24 :])


def _has_alpha(chunk: bytes) -> bool:
    """Whether a lossless WebP says so itself, in bit 28 behind its signature."""
    return chunk[:4] == b"VP8L" and bool(int.from_bytes(chunk[9:13], "little") >> 28 & 1)


def _is_deep(image: Any) -> bool:
    """True for HEIC and AVIF of more than 8 bits; an AVIF says so in the third byte of its box av1C."""
    if image.format == "HEIF":
        return bool(image.info.get("bit_depth", 8) > 8)
    head = _head(image, 65_536)
    coding = head.find(b"av1C")
    return 0 <= coding < len(head) - 6 and bool(head[coding + 6] & 0x40)


def _head(image: Any, length: int) -> bytes:
    """The first bytes of the image's file if it can still be reached, or b""."""
    try:
        file = getattr(image, "fp", None)
        if file is not None:
            place = file.tell()
            file.seek(0)
            head: bytes = file.read(length)
            file.seek(place)
            return head
        with open(image.filename, "rb") as again:  # noqa: PTH123  # may be a path of any kind
            return again.read(length)
    except (OSError, ValueError, AttributeError, TypeError):
        return b""
