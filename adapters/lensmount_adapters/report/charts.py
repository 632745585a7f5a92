"""Charts as inline SVG in the colours of the page: lines over two axes, and bars compared with the diagonal.

Every text is escaped by MarkupSafe; colours, fonts and dashes are CSS classes in `templates/report.html.j2`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lensmount_adapters.metrics.calibration import Calibration

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 50, 14, 10, 44
MAX_POINTS = 300  # of one line


@dataclass(frozen=True, slots=True)
class ChartLine:
    """One line of a chart; `kind` is its number in the page's palette, or -1 for the thin grey reference line."""

    label: str
    points: tuple[tuple[float, float], ...]
    kind: int


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis from `low` to `high` with tick marks at `ticks`."""

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]

    @classmethod
    def over(cls, label: str, low: float, high: float, integers: bool = False) -> Axis:
        """About five round ticks. The ends move out to the next tick; an axis of `integers` keeps its ends."""
        if high <= low and integers:
            return cls(label, low - 1, low + 1, (low,))
        if high <= low:
            low, high = low - 0.5, high + 0.5
        step = _round_step((high - low) / 5)
        if integers:
            step = max(1.0, step)
            inside = [index * step for index in range(math.ceil(low / step), math.floor(high / step) + 1)]
            ends = [low, *(tick for tick in inside if low + step / 2 < tick < high - step / 2), high]
            return cls(label, low, high, tuple(dict.fromkeys(ends)))
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        return cls(label, first * step, last * step, tuple(index * step for index in range(first, last + 1)))


SHARE = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def line_chart(
    name: str, title: str, lines: Sequence[ChartLine], x: Axis, y: Axis, marked: float | None = None
) -> Markup:
    """Lines over two axes. `name` is unique in the page, `title` is for screen readers, `marked` is an x with dots."""
    body = [_frame(x, y)]
    for line in lines:
        points = [(_x(x, a), _y(y, b)) for a, b in _thin(line.points)]
        kind = "reference" if line.kind < 0 else f"s{line.kind}"
        if len(points) == 1:
            body.append(Markup('<circle class="dot {}" cx="{}" cy="{}" r="3.5"/>').format(kind, *points[0]))
        elif points:
            path = " ".join(f"{a},{b}" for a, b in points)
            body.append(Markup('<polyline class="line {}" points="{}"/>').format(kind, path))
    for line in lines:
        body += [
            Markup('<circle class="dot edge s{}" cx="{}" cy="{}" r="5"/>').format(line.kind, _x(x, a), _y(y, b))
            for a, b in line.points
            if a == marked
        ]
    return _svg(name, title, Markup("").join(body))


def reliability_chart(name: str, title: str, calibration: Calibration) -> Markup:
    """Per confidence bin: accuracy as a bar, mean confidence as a tick, number of images as a bar below the axis."""
    x, y = Axis("confidence", 0, 1, SHARE), Axis("accuracy", 0, 1, SHARE)
    most = max((bin_.count for bin_ in calibration.bins), default=0)
    body = [
        _frame(x, y),
        Markup('<line class="line reference" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
            _x(x, 0), _y(y, 0), _x(x, 1), _y(y, 1)
        ),
    ]
    for bin_ in calibration.bins:
        if bin_.accuracy is None or bin_.confidence is None:
            continue
        left, right = _x(x, bin_.lower) + 1, _x(x, bin_.upper) - 1
        top, bottom = _y(y, bin_.accuracy), _y(y, 0)
        body.append(
            Markup(
                '<g><title>{}</title><rect class="bar" x="{}" y="{}" width="{}" height="{}"/>'
                '<line class="confidence" x1="{}" x2="{}" y1="{}" y2="{}"/>'
                '<rect class="images" x="{}" y="{}" width="{}" height="{}"/></g>'
            ).format(
                f"confidence {bin_.lower:.2f} to {bin_.upper:.2f}: {bin_.count} images, mean confidence "
                f"{bin_.confidence:.3f}, accuracy {bin_.accuracy:.3f}",
                *_rounded(left, min(top, bottom - 1), right - left, max(1.0, bottom - top)),
                *_rounded(left, right, _y(y, bin_.confidence), _y(y, bin_.confidence)),
                *_rounded(left, bottom + 1, right - left, max(1.5, 8 * bin_.count / most)),
            )
        )
    return _svg(name, title, Markup("").join(body))


def _svg(name: str, title: str, body: Markup) -> Markup:
    return Markup(
        '<svg viewBox="0 0 {} {}" role="img" aria-labelledby="{}-title"><title id="{}-title">{}</title>{}</svg>'
    ).format(WIDTH, HEIGHT, name, name, title, body)


def _frame(x: Axis, y: Axis) -> Markup:
    """Grid, tick labels and axis labels."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for tick in x.ticks:
        at = _x(x, tick)
        parts.append(Markup('<line class="grid" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(at, TOP, bottom))
        parts.append(
            Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(at, bottom + 20, _tick(tick, x))
        )
    for tick in y.ticks:
        at = _y(y, tick)
        parts.append(Markup('<line class="grid" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/>').format(LEFT, right, at))
        parts.append(
            Markup('<text x="{}" y="{}" text-anchor="end" dominant-baseline="middle">{}</text>').format(
                LEFT - 6, at, _tick(tick, y)
            )
        )
    parts.append(
        Markup('<text class="label" x="{}" y="{}" text-anchor="middle">{}</text>').format(
            (LEFT + right) / 2, HEIGHT - 6, x.label
        )
    )
    middle = (TOP + bottom) / 2
    parts.append(
        Markup(
            '<text class="label" x="12" y="{0}" text-anchor="middle" transform="rotate(-90 12 {0})">{1}</text>'
        ).format(middle, y.label)
    )
    return Markup("").join(parts)


def _x(axis: Axis, value: float) -> float:
    return round(LEFT + (value - axis.low) / (axis.high - axis.low) * (WIDTH - LEFT - RIGHT), 1)


def _y(axis: Axis, value: float) -> float:
    share = min(1.0, max(0.0, (value - axis.low) / (axis.high - axis.low)))
    return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def _rounded(*values: float) -> list[float]:
    return [round(value, 1) for value in values]


def _round_step(step: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return float(next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step * (1 - 1e-9)))


def _tick(value: float, axis: Axis) -> str:
    if len(axis.ticks) < 2:
        return f"{value:g}"
    step = axis.ticks[1] - axis.ticks[0]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:.{digits}f}" if digits < 6 and abs(value) < 1e6 else f"{value:.1e}"


def _thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MAX_POINTS of the points, evenly chosen and including the last one."""
    if len(points) <= MAX_POINTS:
        return list(points)
    step = (len(points) - 1) / (MAX_POINTS - 1)
    return [points[round(index * step)] for index in range(MAX_POINTS)]
