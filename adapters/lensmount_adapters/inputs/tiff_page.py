"""The one page of a TIFF that is the image: its tags, read by themselves, so that no other tag can cost the image.

Pages that are marked as reduced (thumbnails, pyramids) or as masks are not images. Several others are refused.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from lensmount_adapters.errors import ImageInvalid, ImageTooLarge
from lensmount_adapters.inputs.limits import ImageLimits, check_frames
from lensmount_adapters.inputs.orientation import orientation_of, within_range

_TYPES = {1: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_DEFAULTS = {254: 0, 255: 1, 258: 1, 259: 1, 266: 1, 274: 1, 277: 1, 284: 1, 292: 0, 317: 1, 332: 1, 339: 1}
_MANY = {258, 273, 279, 320, 324, 325, 330, 336, 338, 339, 529, 530, 532}  # tags with as many values as the file says
_ONE = {254, 255, 256, 257, 259, 262, 266, 274, 277, 278, 284, 292, 317, 322, 323, 332, 34412, 50706}
_NAMES = {256: "ImageWidth", 257: "ImageLength", 262: "PhotometricInterpretation", 323: "TileLength"}
_RATIONALS = {529, 532}  # kept as numerator, denominator, numerator, ...
_BYTES = {270, 347, 700}  # ImageDescription, JPEGTables, XMP
_WHOLE = (1, 3, 4, 6, 8, 9, 13, 16, 17, 18)
_MOST_PAGES = 65_536
_MOST_SEGMENTS = 200_000
_IMAGEJ = re.compile(rb"\bimages=(\d{1,9})\b")


@dataclass(frozen=True, slots=True)
class TiffPage:
    """The tags of a page. A tag of one value is in `ones`, others are tuples in `many` and bytes in `texts`."""

    order: str  # "<" or ">"
    ones: dict[int, int]
    many: dict[int, tuple[int, ...]]
    texts: dict[int, bytes]

    def one(self, tag: int) -> int:
        """The value of a tag, or its default by the TIFF specification. Raises ImageInvalid if it has neither."""
        value = self.ones.get(tag, _DEFAULTS.get(tag))
        if value is None:
            name = f"{_NAMES.get(tag, 'tag')} ({tag})"
            raise ImageInvalid(f"found a TIFF without {name}, which says how to read it. Fix: save the image again")
        return value

    @property
    def width(self) -> int:
        """In pixels."""
        return self.one(256)

    @property
    def height(self) -> int:
        """In pixels."""
        return self.one(257)

    @property
    def samples(self) -> int:
        """How many samples a pixel has."""
        return self.one(277)

    @property
    def is_tiled(self) -> bool:
        """True if the pixels are in tiles, False if they are in strips."""
        return 322 in self.ones

    @property
    def is_planar(self) -> bool:
        """True if each sample has segments of its own."""
        return self.one(284) == 2 and self.samples > 1

    @property
    def orientation(self) -> int:
        """1 to 8: that of the tag, or that of XMP without the tag."""
        return within_range(self.ones[274]) if 274 in self.ones else orientation_of(None, self.texts.get(700))

    @property
    def segment_size(self) -> tuple[int, int]:
        """Rows and columns of a full strip or tile."""
        if self.is_tiled:
            return self.one(323), self.one(322)
        return min(self.ones.get(278, self.height) or self.height, self.height), self.width

    def is_extra(self) -> bool:
        """True for a page that is a smaller copy of another page or a mask."""
        return bool(self.one(254) & 0b101) or self.one(255) == 2

    def segments(self, data: bytes) -> list[tuple[int, int]]:
        """Return the offset and length of each strip or tile, in order. Raises ImageInvalid if one is missing."""
        rows, columns = self.segment_size
        expected = -(-self.height // rows) * -(-self.width // columns) * (self.samples if self.is_planar else 1)
        offsets = self.many.get(324 if self.is_tiled else 273, ())
        lengths = self.many.get(325 if self.is_tiled else 279, ())
        if not lengths and len(offsets) == expected == 1:
            lengths = (len(data) - offsets[0],)  # old writers leave the length out
        if expected > _MOST_SEGMENTS:
            raise ImageTooLarge(
                f"found a TIFF of {expected} strips or tiles, expected at most {_MOST_SEGMENTS}. "
                "Fix: save it with larger strips"
            )
        segments = list(zip(offsets, lengths, strict=False))[:expected]
        missing = expected - sum(offset > 0 and length > 0 for offset, length in segments)
        if missing:
            raise ImageInvalid(
                f"found a TIFF without the data of {missing} of its {expected} strips or tiles. "
                "Fix: save the image again, with every strip or tile",
                code="image_truncated",
            )
        return segments


def read_page(data: bytes, limits: ImageLimits) -> TiffPage:
    """Return the page that is the image, with its size checked.

    Raises ImageTooLarge (several images, over a limit) and ImageInvalid.
    """
    pages = _pages(data)
    real = [page for page in pages if not page.is_extra()] or pages[:1]
    first = real[0]
    if 50706 in pages[0].ones or (first.is_extra() and 330 in first.many) or first.ones.get(262) in (32803, 34892):
        raise ImageInvalid(
            "found a raw photo in a TIFF (DNG, NEF, ARW or another), expected finished pixels. "
            "Fix: export a TIFF or JPEG from your raw converter",
            code="unsupported_color_mode",
        )
    frames, kind = max(len(real), _imagej_images(first)), _kind(pages[0])
    words = f"{kind} of {frames} {'planes' if kind == 'an OME-TIFF' else 'frames'}"
    check_frames(
        frames,
        words,
        "save the one frame that counts as an image of its own, for example "
        "tifffile.imwrite('frame.tif', tifffile.imread(path, key=0))",
    )
    limits.check_size(first.width, first.height)
    rows, columns = first.segment_size
    if rows < 1 or columns < 1:
        raise ImageInvalid(
            f"found a TIFF of tiles of {columns} x {rows}, expected at least 1 x 1. Fix: save it in strips"
        )
    if first.is_tiled:
        limits.check_size(columns, rows)
    return first


def _kind(page: TiffPage) -> str:
    description = page.texts.get(270, b"")
    if b"<OME" in description[:4096]:
        return "an OME-TIFF"
    if description.startswith(b"ImageJ="):
        return "an ImageJ TIFF"
    if description.startswith(b"Aperio"):
        return "an Aperio SVS slide"
    return "a Zeiss LSM file" if 34412 in page.ones else "a TIFF"


def _imagej_images(page: TiffPage) -> int:
    """ImageJ writes a large stack as one page and the number of its images into the description."""
    description = page.texts.get(270, b"")
    found = _IMAGEJ.search(description) if description.startswith(b"ImageJ=") else None
    return int(found[1]) if found else 1


def _pages(data: bytes) -> list[TiffPage]:
    order = "<" if data[:2] == b"II" else ">"
    is_big = data[2:4] in (b"+\0", b"\0+")
    pointer, at = ("Q", 8) if is_big else ("I", 4)
    pages: list[TiffPage] = []
    seen: set[int] = set()
    while True:
        at = _unpack(order + pointer, data, at)
        if at == 0 and pages:
            return pages
        if at in seen or at + 2 > len(data) or at < 8:
            raise ImageInvalid(
                "found a TIFF whose pages lie beyond its end, or in a loop. Fix: send the whole file",
                code="image_truncated",
            )
        seen.add(at)
        if len(seen) > _MOST_PAGES:
            raise ImageTooLarge(
                f"found more than {_MOST_PAGES} frames, expected one. Fix: save the one frame that counts by itself",
                code="image_too_many_frames",
            )
        entries = _unpack(order + ("Q" if is_big else "H"), data, at)
        at += 8 if is_big else 2
        size = 20 if is_big else 12
        end = at + entries * size
        if end > len(data):
            raise ImageInvalid("found a TIFF that ends in its tags. Fix: send the whole file", code="image_truncated")
        pages.append(_page(data, order, is_big, range(at, end, size)))
        if end + struct.calcsize(pointer) > len(data):
            return pages  # some writers leave the last pointer out
        at = end


def _unpack(layout: str, data: bytes, at: int) -> int:
    if at + struct.calcsize(layout) > len(data):
        raise ImageInvalid("found a TIFF that ends in its header. Fix: send the whole file", code="image_truncated")
    value: int = struct.unpack_from(layout, data, at)[0]
    return value


def _page(data: bytes, order: str, is_big: bool, entries: range) -> TiffPage:
    """Read the tags that pixels need. Tags of an odd type, and those beyond the end of the data, are passed over."""
    page = TiffPage(order, {}, {}, {})
    for at in entries:
        tag, kind = struct.unpack_from(order + "HH", data, at)
        if tag not in _ONE and tag not in _MANY and tag not in _BYTES:
            continue
        (count,) = struct.unpack_from(order + ("Q" if is_big else "I"), data, at + 4)
        where, room = (at + 12, 8) if is_big else (at + 8, 4)
        width = struct.calcsize(_TYPES[kind]) if kind in _TYPES else 8 if kind == 5 else 1
        if count * width > room:
            where = _unpack(order + ("Q" if is_big else "I"), data, where)
        if not count or where + count * width > len(data):
            continue
        if tag in _BYTES:
            page.texts.setdefault(tag, data[where : where + min(count, 1 << 20)])
        elif kind in _WHOLE and tag in _ONE:
            page.ones.setdefault(tag, struct.unpack_from(order + _TYPES[kind], data, where)[0])
        elif tag == 34412:  # Zeiss's own block of bytes
            page.ones.setdefault(tag, 1)
        elif kind == 5 and tag in _RATIONALS and count <= 6:
            page.many.setdefault(tag, struct.unpack_from(f"{order}{2 * count}I", data, where))
        elif kind in _WHOLE and tag in _MANY and count <= _MOST_SEGMENTS * 4:
            page.many.setdefault(tag, struct.unpack_from(f"{order}{count}{_TYPES[kind]}", data, where))
    return page
