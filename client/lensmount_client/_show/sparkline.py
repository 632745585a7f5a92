"""A row of numbers as a row of small bars."""

from __future__ import annotations

from collections.abc import Sequence

BARS = "▁▂▃▄▅▆▇█"
PLAIN_BARS = "_.-=+*#@"  # for terminals that can only show ASCII


def sparkline(values: Sequence[float | None], width: int = 40, bars: str = BARS) -> str:
    """One character per value. More than `width` values are averaged into `width` groups. None is a gap.

    >>> sparkline([0.5, 0.6, None, 0.9, 1.0])
    '▁▂ ▇█'
    """
    if len(values) > width:
        values = [_mean(values[len(values) * i // width : len(values) * (i + 1) // width]) for i in range(width)]
    known = [value for value in values if value is not None]
    if not known:
        return " " * len(values)
    lowest, span = min(known), max(known) - min(known)
    if span == 0:
        return "".join(" " if value is None else bars[len(bars) // 2] for value in values)
    return "".join(" " if value is None else bars[round((value - lowest) / span * (len(bars) - 1))] for value in values)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
