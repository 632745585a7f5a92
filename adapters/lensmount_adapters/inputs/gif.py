"""How many frames a GIF has, counted without decoding any."""

from __future__ import annotations

_MOST_BLOCKS = 2_000_000
ENOUGH = 1000


def count_frames(data: bytes) -> int:
    """Count the frames up to `ENOUGH`. A file that ends too early has the frames that began."""
    at = 13 + _table_bytes(data[10]) if len(data) > 13 else len(data)
    frames = blocks = 0
    while at < len(data) and frames < ENOUGH and blocks < _MOST_BLOCKS:
        kind = data[at]
        if kind == 0x2C and at + 10 < len(data):  # an image: its place, its colours, its code size
            frames += 1
            at += 11 + _table_bytes(data[at + 9])
        elif kind == 0x21:  # an extension
            at += 2
        elif kind == 0:
            at += 1
            continue
        else:
            return frames  # the trailer, or damage
        while at < len(data) and data[at] and blocks < _MOST_BLOCKS:
            at += 1 + data[at]
            blocks += 1
        at += 1
    return frames if blocks < _MOST_BLOCKS else ENOUGH


def _table_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0
