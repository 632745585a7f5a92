"""What the header of a JPEG says about its pixels, and the same JPEG without its metadata."""

from __future__ import annotations

from collections.abc import Iterator

from lensmount_adapters.errors import ImageInvalid

_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SCAN = 0xDA
JPEG_KINDS = {0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA}
"""The kinds of frame that are read: baseline, extended, progressive, lossless, and two of arithmetic coding."""
_NEEDED_APPS = {0xE0, 0xEE}  # JFIF and Adobe, which say what the colours are


def jpeg_frame(data: bytes) -> tuple[int, int, int, int, int]:
    """Return the kind of frame (the marker's second byte), bits, height, width and components. Raises ImageInvalid."""
    for marker, start, end in _segments(data):
        if marker in _FRAMES and end - start >= 10:
            bits = data[start + 4]
            height, width = (
                int.from_bytes(data[start + 5 : start + 7], "big"),
                int.from_bytes(data[start + 7 : start + 9], "big"),
            )
            return marker, bits, height, width, data[start + 9]
    raise ImageInvalid("found a JPEG without a frame header. Fix: send the whole file", code="image_truncated")


def jpeg_size(data: bytes) -> tuple[int, int, int]:
    """Return height, width and components. Raises ImageInvalid."""
    return jpeg_frame(data)[2:]


def check_jpeg_is_whole(data: bytes) -> None:
    """Raise ImageInvalid if no end marker follows the pixels. Decoders fill what is missing without a word."""
    start = next((end for marker, _, end in _segments(data) if marker == _SCAN), 0)
    if data.rfind(b"\xff\xd9", start) < 0:
        raise ImageInvalid(
            "found a JPEG whose end marker is missing, so its pixels are cut. Fix: send the whole file",
            code="image_truncated",
        )


def with_stated_height(data: bytes) -> bytes:
    """Return the JPEG with the height in its header that it states behind its first scan (marker DNL), if it does."""
    for marker, start, end in _segments(data):
        if marker in _FRAMES and data[start + 5 : start + 7] == b"\0\0":
            stated = data.find(b"\xff\xdc\0\4", end)
            if stated >= 0:
                return data[: start + 5] + data[stated + 4 : stated + 6] + data[start + 7 :]
    return data


def metadata_of(data: bytes) -> tuple[bytes | None, bytes | None]:
    """Return the first EXIF block and the first XMP packet, or None for each that is not there."""
    exif = xmp = None
    for marker, start, end in _segments(data):
        body = data[start + 4 : end]
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            exif = exif or body
        elif marker == 0xE1 and body.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            xmp = xmp or body
    return exif, xmp


def without_metadata(data: bytes) -> bytes:
    """Return the JPEG without comments and application data other than JFIF and Adobe."""
    kept, last = [data[:2]], 2
    for marker, start, end in _segments(data):
        is_metadata = marker == 0xFE or (0xE0 <= marker <= 0xEF and marker not in _NEEDED_APPS)
        if not is_metadata:
            kept.append(data[start:end])
        last = end
        if marker == _SCAN:
            break
    return b"".join((*kept, data[last:]))


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment up to the first scan."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            at = data.find(b"\xff", at)  # decoders pass over stray bytes between segments
            if at < 0:
                return
            continue
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _ALONE or marker == 0:
            at += 2
        else:
            end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            yield marker, at, min(end, len(data))
            if marker == _SCAN:
                return
            at = end
