"""The facts about one image, taken when it is read: its size, its file format and metadata, and how its pixels look.

The pixels are those that training sees. The traits are read from the header of the file, and a header that cannot be
read has none: nothing in this module refuses an image.
"""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from PIL import Image

from lensmount_adapters.data.near_duplicates import Likeness, likeness_of

_SIGNATURES = (
    (0, b"\x89PNG", "PNG"),
    (0, b"\xff\xd8", "JPEG"),
    (0, b"RIFF", "WEBP"),
    (0, b"BM", "BMP"),
    (0, b"GIF8", "GIF"),
    (4, b"jP  \r\n", "JPEG2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG2000"),
    (4, b"ftypavi", "AVIF"),
    (4, b"ftyp", "HEIC"),
    (128, b"DICM", "DICOM"),
)
_HEADERS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")  # the formats whose traits Pillow reads
_BITS_PER_SAMPLE, _DESCRIPTION, _MAKE, _MODEL, _SOFTWARE, _DATE, _ARTIST = 258, 270, 271, 272, 305, 306, 315  # TIFF
_EXIF, _TAKEN, _SERIAL, _LENS = 0x8769, 36867, 42033, 42036  # EXIF tags: the private part, and three of its values
_LUMINANCE = 3688  # the sum of the table of ITU-T T.81, K.1, which is that of quality 50
_FLAT = 2  # levels: the noise of a compressed image of one colour
_FRAME = 12  # levels: the noise of a compressed border of one colour
_WIDEST = 64  # pixels of a border that are measured
_GREY = 3  # levels between the channels of a grey image that was stored in colour


@dataclass(frozen=True, slots=True, eq=False)
class ImageFacts:
    """The facts about one image. `darkest` and `brightest` are the extremes of all channels, 0 to 255.

    `traits` are properties of the file and not of what it shows, such as {"file format": "PNG", "bits": "8"}.
    """

    path: str
    label: str
    group: str | None
    split: str | None
    digest: str
    width: int
    height: int
    format: str
    size_bytes: int
    likeness: Likeness
    darkest: int = 0
    brightest: int = 255
    is_flat: bool = False
    traits: Mapping[str, str] = field(default_factory=dict)


def facts_of(
    data: bytes, image: Image.Image, path: str, label: str, group: str | None = None, split: str | None = None
) -> ImageFacts:
    """Take the facts about an image from the bytes of its file and from its RGB pixels."""
    extremes = cast(tuple[tuple[int, int], ...], image.getextrema())  # of each channel
    lows, highs = zip(*extremes, strict=True)
    is_flat = all(high - low <= _FLAT for low, high in extremes)
    kind = format_of(data)
    return ImageFacts(
        path=path,
        label=label,
        group=group,
        split=split,
        digest=hashlib.sha256(data).hexdigest(),
        width=image.width,
        height=image.height,
        format=kind,
        size_bytes=len(data),
        likeness=likeness_of(image),
        darkest=min(lows),
        brightest=max(highs),
        is_flat=is_flat,
        traits={
            "file format": kind,
            "colour": "grey" if _is_grey(image) else "colour",
            **({} if is_flat else _border(image)),
            **_header(data),
        },
    )


def format_of(data: bytes) -> str:
    """Return the format of an image that could be decoded, by its first bytes."""
    return next((name for at, magic, name in _SIGNATURES if data[at : at + len(magic)] == magic), "TIFF")


def _header(data: bytes) -> dict[str, str]:
    """Read the traits of the file's header. Whatever is odd about it, an image with pixels is never refused."""
    try:
        with Image.open(io.BytesIO(data), formats=_HEADERS) as image:
            return {name: sys.intern(value) for name, value in _traits(image, data).items() if value}
    except Exception:  # a decoder may raise anything on odd metadata
        return {}


def _traits(image: Image.Image, data: bytes) -> dict[str, str]:
    tags = getattr(image, "tag_v2", {})
    bits = str(data[24]) if data.startswith(b"\x89PNG") else str(max(tags.get(_BITS_PER_SAMPLE) or (8,)))
    return {
        "colour mode": image.mode,
        "bits": bits,
        "compression": str(image.info.get("compression", "")) or ("progressive" if "progressive" in image.info else ""),
        "JPEG quality": _quality(image),
        "resolution": str(image.info.get("dpi", "")),
        "colour profile": _digest(image.info.get("icc_profile") or b""),
        **_origin(image, tags),
    }


def _quality(image: Image.Image) -> str:
    """The quality of a JPEG as libjpeg counts it, 1 to 100, and a code of its tables and its subsampling."""
    tables = getattr(image, "quantization", None)
    if not tables:
        return ""
    scale = 100 * sum(tables[min(tables)]) / _LUMINANCE  # percent: jpeg_quality_scaling, the other way round
    quality = 100 - scale / 2 if scale <= 100 else 5000 / scale
    settings = sorted(tables.items()), [layer[1:3] for layer in getattr(image, "layer", ())]
    return f"about {quality:.0f} (settings {_digest(repr(settings).encode())})"


def _origin(image: Image.Image, tags: Mapping[int, object]) -> dict[str, str]:
    """What the metadata say about the camera, the program, the day and the person."""
    # Pillow decodes all pixels of a PNG to look for EXIF behind them.
    exif = image.getexif() if image.format != "PNG" or "exif" in image.info else Image.Exif()
    private = exif.get_ifd(_EXIF)
    comment = image.info.get("comment") or image.info.get("Comment") or exif.get(_DESCRIPTION) or tags.get(_DESCRIPTION)
    found = {
        "camera": f"{exif.get(_MAKE, '')} {exif.get(_MODEL, '')} {private.get(_SERIAL, '')}",
        "lens": private.get(_LENS),
        "software": exif.get(_SOFTWARE) or image.info.get("Software"),
        "date": str(private.get(_TAKEN) or exif.get(_DATE) or "")[:10],
        "author": exif.get(_ARTIST) or image.info.get("Author"),
        "comment": comment.decode("latin-1") if isinstance(comment, bytes) else comment,
    }
    return {name: str(value or "").strip()[:80] for name, value in found.items()}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:8] if data else ""


def _is_grey(image: Image.Image) -> bool:
    small = np.asarray(image.resize((16, 16), Image.Resampling.NEAREST), dtype=np.int16)
    return bool(np.ptp(small, axis=2).max() <= _GREY)


def _border(image: Image.Image) -> dict[str, str]:
    """Return the colours of the outermost pixels of the sides that have a single colour, and the border's width."""
    width, height = image.size
    sides = {
        "top": (0, 0, width, 1),
        "bottom": (0, height - 1, width, height),
        "left": (0, 0, 1, height),
        "right": (width - 1, 0, width, height),
    }
    found: dict[str, str] = {}
    for side, box in sides.items():
        pixels = np.asarray(image.crop(box)).reshape(-1, 3)
        if int(np.ptp(pixels, axis=0).max()) <= _FRAME:
            found[side] = _colour(pixels.mean(axis=0))
    colours = set(found.values())
    if len(found) == len(sides) and len(colours) == 1:
        return {"border": colours.pop(), "border width": str(_border_width(image))}
    return {"border": ", ".join(f"{colour} {side}" for side, colour in found.items())}


def _border_width(image: Image.Image) -> int:
    """How many of the topmost rows have a single colour, at most _WIDEST."""
    rows = np.asarray(image.crop((0, 0, image.width, min(_WIDEST, image.height))))  # [rows, width, 3]
    even = np.ptp(rows, axis=1).max(axis=1) <= _FRAME
    return len(even) if even.all() else int(even.argmin())


def _colour(rgb: np.ndarray) -> str:
    if rgb.max() < 24:
        return "black"
    if rgb.min() > 231:
        return "white"
    return "#" + "".join(f"{min(255, round(float(value) / 32) * 32):02x}" for value in rgb)
