"""Seeded changes of bytes and of structures, for the fuzz tests: the same seed gives the same cases everywhere."""

from __future__ import annotations

import random
from typing import Any

from tests.fuzz.watch import SOAK

NUMBERS = (0, 1, 2, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 1.5, 1e-300, 1e300, 2**31, 2**53, 2**63, 2**64, float("nan"), float("inf")),
    *("", "a", "a\0", "\u202e", "\ud800", "a" * 5000, [], {}, [[]], {"a": {}}, [0] * 50),
)


def cases(few: int, full: int) -> range:
    """The seeds to try: few, or with LENSMOUNT_SOAK=1 the full count."""
    return range(full if SOAK else few)


def mutated(data: bytes, draw: random.Random) -> bytes:
    """One to four changes: a flipped bit, another byte, a part cut out, doubled, swapped, or a number at its limits."""
    out = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(out) + 1)
        size = draw.choice((1, 2, 4, 8, draw.randint(1, 64)))
        match draw.randrange(7):
            case 0 if place < len(out):
                out[place] ^= 1 << draw.randrange(8)
            case 1:
                del out[place : place + size]
            case 2:
                out[place:place] = out[place : place + size]
            case 3:
                out[place : place + size] = draw.randbytes(size)
            case 4:
                number = draw.choice(NUMBERS)
                width = draw.choice((1, 2, 4, 8))
                packed = (number % 256**width).to_bytes(width, "little")
                out[place : place + width] = draw.choice((packed, packed[::-1]))
            case 5:
                del out[place:]
            case _:
                other = draw.randrange(len(out) + 1)
                out[place : place + size] = out[other : other + size]
    return bytes(out)


def changed(value: Any, draw: random.Random) -> Any:
    """A JSON value with one part replaced, left out, doubled or renamed."""
    if isinstance(value, dict) and value and draw.random() < 0.85:
        key = draw.choice(sorted(value, key=str))
        kept = dict(value)
        match draw.randrange(5):
            case 0:
                del kept[key]
            case 1:
                kept[draw.choice((key + "x", "", "__proto__", key.upper()))] = kept.pop(key)
            case _:
                kept[key] = changed(kept[key], draw)
        return kept
    if isinstance(value, list) and value and draw.random() < 0.85:
        index = draw.randrange(len(value))
        part = [changed(value[index], draw)] * draw.choice((1, 1, 1, 0, 2))
        return [*value[:index], *part, *value[index + 1 :]]
    return draw.choice(VALUES)
