"""Writes TIFF files from tags and packed samples, by the TIFF 6.0 specification and with nothing but numpy and zlib."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

Tags = dict[int, tuple[int, Sequence[int] | bytes]]
_LAYOUTS = {1: "B", 2: "s", 3: "H", 4: "I", 7: "B", 8: "h", 16: "Q"}


def packed(samples: np.ndarray, bits: int, order: str = "<") -> bytes:
    """The bytes of [H, W, C]: samples of 8 and 16 bits plainly, others bit by bit, each row from a new byte on."""
    if bits in (8, 16):
        return samples.astype(f"{order}u{bits // 8}").tobytes()
    flat = samples.reshape(len(samples), -1).astype(np.uint32)
    ones_and_zeros = (flat[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(ones_and_zeros.reshape(len(samples), -1).astype(np.uint8), axis=1).tobytes()


def tags_of(samples: np.ndarray, bits: int, photometric: int, compression: int = 1) -> Tags:
    height, width, channels = samples.shape
    return {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits] * channels),
        259: (3, [compression]),
        262: (3, [photometric]),
        277: (3, [channels]),
        278: (4, [height]),
        284: (3, [1]),
    }


def tiff(tags: Tags, segments: Sequence[bytes], order: str = "<", tiled: bool = False) -> bytes:
    """A classic TIFF of one page: header, segments, directory, and values that do not fit into it."""
    return tiff_of_pages([(tags, segments)], order, tiled)


def tiff_of_pages(pages: Sequence[tuple[Tags, Sequence[bytes]]], order: str = "<", tiled: bool = False) -> bytes:
    data = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4))
    pointer = 4
    for tags, segments in pages:
        offsets = []
        for segment in segments:
            offsets.append(len(data))
            data += segment + bytes(len(segment) % 2)
        places: Tags = {
            (324 if tiled else 273): (4, offsets),
            (325 if tiled else 279): (4, [len(segment) for segment in segments]),
        }
        places |= tags
        values = {tag: _value(order, *places[tag]) for tag in sorted(places)}
        later = {}
        for tag, (_, _, value) in values.items():
            if len(value) > 4:
                later[tag] = len(data)
                data += value + bytes(len(value) % 2)
        struct.pack_into(f"{order}I", data, pointer, len(data))
        data += struct.pack(f"{order}H", len(values))
        for tag, (kind, count, value) in values.items():
            inline = struct.pack(f"{order}I", later[tag]) if tag in later else value.ljust(4, b"\0")
            data += struct.pack(f"{order}HHI", tag, kind, count) + inline
        pointer = len(data)
        data += bytes(4)
    return bytes(data)


def _value(order: str, kind: int, value: Sequence[int] | bytes) -> tuple[int, int, bytes]:
    if isinstance(value, bytes):
        return kind, len(value), value
    if kind == 5:  # fractions: numerator, denominator, ...
        return kind, len(value) // 2, struct.pack(f"{order}{len(value)}I", *value)
    return kind, len(value), struct.pack(f"{order}{len(value)}{_LAYOUTS[kind]}", *value)


def simple(samples: np.ndarray, bits: int, photometric: int, order: str = "<", **changes: Any) -> bytes:
    """A TIFF of one strip. `compression` 1 or 8, `more` is a dict of tags to add or replace."""
    samples = samples[..., None] if samples.ndim == 2 else samples
    compression = changes.get("compression", 1)
    raw = packed(samples, bits, order)
    strip = zlib.compress(raw) if compression == 8 else raw
    return tiff(tags_of(samples, bits, photometric, compression) | changes.get("more", {}), [strip], order)
