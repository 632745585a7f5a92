"""PNG: complete or refused, without the chunks that pixels do not need, and 16-bit samples by the rule.

Pillow fills a short PNG with black, refuses a whole image for a large text chunk, and keeps the high byte of 16-bit
colours. So the chunks are checked here, and 16-bit images and grey below 8 bits with transparency go to libpng.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from lensmount_adapters.errors import ImageInvalid
from lensmount_adapters.inputs.limits import ImageLimits, check_frames
from lensmount_adapters.inputs.orientation import orientation_of, upright
from lensmount_adapters.inputs.pixels import image_of, to_8_bits, to_rgb

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_NEEDED = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_MOST_CHUNKS = 200_000
_MOST_TEXT_BYTES = 1 << 18  # of a text chunk in which an orientation is looked for


@dataclass(frozen=True, slots=True)
class _Chunk:
    kind: bytes
    start: int
    length: int

    def body(self, data: bytes) -> bytes:
        return data[self.start + 8 : self.start + 8 + self.length]

    def is_intact(self, data: bytes) -> bool:
        end = self.start + 8 + self.length
        return zlib.crc32(data[self.start + 4 : end]) == int.from_bytes(data[end : end + 4], "big")


def decode_png(data: bytes, limits: ImageLimits) -> Image.Image:
    """Decode a PNG to an upright RGB image. Raises ImageError; libpng and Pillow may raise anything else."""
    chunks = _chunks(data)
    if not chunks or chunks[0].kind != b"IHDR" or chunks[0].length != 13 or not chunks[0].is_intact(data):
        raise ImageInvalid("found a PNG whose header fails its checksum. Fix: send the file again")
    header = chunks[0].body(data)  # width, height, depth, colour, compression, filter, interlace
    limits.check_size(int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big"))
    animation = next((chunk.body(data)[:4] for chunk in chunks if chunk.kind == b"acTL"), b"")
    frames = int.from_bytes(animation, "big")
    check_frames(frames, f"an animated PNG of {frames} frames", "save the one frame that counts as a PNG of its own")
    _check_is_complete(data, chunks, header)
    if header[9] == 3 and not any(chunk.kind == b"PLTE" and chunk.length >= 3 for chunk in chunks):
        raise ImageInvalid("found a PNG of palette indices without its palette. Fix: save the image again")
    kept = [chunk for chunk in chunks if chunk.kind in _NEEDED and not _is_odd(chunk, chunks, header, data)]
    has_transparency = any(chunk.kind == b"tRNS" for chunk in kept)
    if len(kept) < len(chunks):
        parts = [data[chunk.start : chunk.start + chunk.length + 12] for chunk in kept]
        plain = b"".join((data[:8], *parts))
    else:
        plain = data
    if header[8] == 16 or (has_transparency and header[9] == 0 and header[8] < 8):
        image = _by_libpng(plain, header)
    else:
        with Image.open(io.BytesIO(plain), formats=("PNG",)) as opened:
            opened.load()
            image = to_rgb(opened)
    return upright(image, _orientation(data, chunks))


def png_orientation(data: bytes) -> int:
    """Return the orientation, 1 to 8, that the chunks of a PNG state."""
    return _orientation(data, _chunks(data))


def check_png_is_complete(data: bytes) -> None:
    """Raise ImageInvalid for a PNG whose pixel data is short or fails its checksums. Nothing is kept of the pixels."""
    chunks = _chunks(data)
    if chunks and chunks[0].kind == b"IHDR" and chunks[0].length == 13:
        _check_is_complete(data, chunks, chunks[0].body(data))


def _by_libpng(data: bytes, header: bytes) -> Image.Image:
    import imagecodecs

    bits = 16 if header[8] == 16 else 8  # libpng has scaled smaller depths to 8 bits
    return image_of(to_8_bits(imagecodecs.png_decode(data), bits))


def _chunks(data: bytes) -> list[_Chunk]:
    """Return the chunks up to IEND or to the end of the data. The last one may be cut."""
    chunks: list[_Chunk] = []
    position = 8
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        chunks.append(_Chunk(data[position + 4 : position + 8], position, length))
        if chunks[-1].kind == b"IEND":
            break
        if len(chunks) > _MOST_CHUNKS:
            raise ImageInvalid(f"found a PNG of more than {_MOST_CHUNKS} chunks. Fix: save the image again")
        position += 12 + length
    return chunks


def _check_is_complete(data: bytes, chunks: list[_Chunk], header: bytes) -> None:
    """Refuse a PNG whose compressed data has fewer bytes than its rows need (PNG specification, sections 9 and 10)."""
    bits = header[8] * _CHANNELS.get(header[9], 0)
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    passes = _ADAM7 if header[12] else ((0, 0, 1, 1),)
    expected = 0
    for x, y, step_x, step_y in passes:
        columns, rows = -(-(width - x) // step_x), -(-(height - y) // step_y)
        if columns > 0 and rows > 0:
            expected += rows * (1 + (columns * bits + 7) // 8)
    inflate = zlib.decompressobj()
    inflated = 0
    for body in _compressed_pixels(data, chunks):
        pending = body
        while pending and inflated <= expected:
            inflated += len(inflate.decompress(pending, 1 << 20))
            pending = inflate.unconsumed_tail
    if inflated < expected:
        raise ImageInvalid(
            f"found a PNG that ends after {inflated} of {expected} bytes of pixels. Fix: send the whole file",
            code="image_truncated",
        )


def _compressed_pixels(data: bytes, chunks: list[_Chunk]) -> Iterator[bytes]:
    """Yield the bodies of the IDAT chunks. Their checksums are verified here, because Pillow ignores them."""
    for chunk in chunks:
        if chunk.kind == b"IDAT":
            body, end = chunk.body(data), chunk.start + 8 + chunk.length
            checksum = data[end : end + 4]
            if len(checksum) == 4 and zlib.crc32(body, zlib.crc32(b"IDAT")) != int.from_bytes(checksum, "big"):
                raise ImageInvalid("found a PNG whose data fails its checksum. Fix: send the file again")
            yield body


def _is_odd(chunk: _Chunk, chunks: list[_Chunk], header: bytes, data: bytes) -> bool:
    """True for a tRNS chunk that is damaged, late or does not fit. libpng passes over it, Pillow does not."""
    if chunk.kind != b"tRNS":
        return False
    first_pixels = next((other.start for other in chunks if other.kind == b"IDAT"), len(data))
    colours = next((other.length // 3 for other in chunks if other.kind == b"PLTE"), 0)
    lengths = {0: (2,), 2: (6,), 3: range(1, colours + 1)}
    is_late = chunk.start > first_pixels
    return is_late or chunk.length not in lengths.get(header[9], ()) or not chunk.is_intact(data)


def _orientation(data: bytes, chunks: list[_Chunk]) -> int:
    exif: bytes | None = None
    xmp: bytes | None = None
    for chunk in chunks:
        if chunk.kind == b"eXIf" and chunk.is_intact(data):
            exif = exif or chunk.body(data)
        elif chunk.kind in (b"tEXt", b"zTXt", b"iTXt") and chunk.length < _MOST_TEXT_BYTES:
            keyword, _, rest = chunk.body(data).partition(b"\0")
            if keyword in (b"Raw profile type exif", b"Raw profile type APP1") and exif is None:
                exif = _hexadecimal(_text(chunk.kind, rest))
            elif keyword == b"XML:com.adobe.xmp":
                xmp = _text(chunk.kind, rest)
    return orientation_of(exif, xmp)


def _text(kind: bytes, rest: bytes) -> bytes:
    """The text of a text chunk after its keyword, inflated if need be; b"" if it is damaged."""
    if kind == b"tEXt":
        return rest
    is_deflated = True
    if kind == b"iTXt":
        is_deflated = rest[:1] == b"\1"
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    else:
        rest = rest[1:]
    if not is_deflated:
        return rest
    try:
        return zlib.decompressobj().decompress(rest, _MOST_TEXT_BYTES)
    except zlib.error:
        return b""


def _hexadecimal(text: bytes) -> bytes | None:
    """The bytes that ImageMagick wrote as hexadecimal digits after a name and a length, each on its own line."""
    try:
        return bytes.fromhex("".join(text.decode("ascii").split("\n")[3:]))
    except ValueError:
        return None
