"""Charts put points where their axes say, and show every text as text."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
import torch

from lensmount_adapters.metrics.calibration import calibration
from lensmount_adapters.report.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MAX_POINTS,
    RIGHT,
    SHARE,
    TOP,
    WIDTH,
    Axis,
    ChartLine,
    line_chart,
    reliability_chart,
)

UNIT = Axis("share", 0, 1, SHARE)


def elements(chart: str, tag: str, kind: str) -> list[dict[str, str]]:
    """The attributes of the elements of a class."""
    root = ElementTree.fromstring(chart)  # also shows that the chart is well-formed
    return [dict(element.attrib) for element in root.iter(tag) if kind in element.attrib.get("class", "").split()]


@pytest.mark.parametrize(
    ("low", "high", "integers", "ticks", "ends"),
    [
        (0, 1, False, (0, 0.2, 0.4, 0.6, 0.8, 1.0), (0, 1)),
        (0.13, 0.87, False, (0, 0.2, 0.4, 0.6, 0.8, 1.0), (0, 1)),
        (1, 40, True, (1, 10, 20, 30, 40), (1, 40)),
        (1, 3, True, (1, 2, 3), (1, 3)),
        (5, 5, True, (5,), (4, 6)),
    ],
)
def test_an_axis_has_a_few_round_ticks(
    low: float, high: float, integers: bool, ticks: tuple[float, ...], ends: tuple[float, float]
) -> None:
    axis = Axis.over("x", low, high, integers)

    assert axis.ticks == pytest.approx(ticks)
    assert (axis.low, axis.high) == pytest.approx(ends)


def test_the_corners_of_the_axes_are_the_corners_of_the_frame() -> None:
    chart = line_chart("a", "A", [ChartLine("one", ((0, 0), (0.5, 0.5), (1, 1)), 0)], UNIT, UNIT)

    (line,) = elements(chart, "polyline", "line")
    points = [tuple(map(float, point.split(","))) for point in line["points"].split()]
    left, right, top, bottom = LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM
    assert points == [(left, bottom), ((left + right) / 2, (top + bottom) / 2), (right, top)]


def test_a_single_point_is_a_dot_and_a_marked_x_has_dots_on_every_line() -> None:
    lines = [ChartLine("one", ((0.5, 0.5),), 0), ChartLine("two", ((0.5, 0.25), (1, 1)), 1), ChartLine("no", (), 2)]

    chart = line_chart("a", "A", lines, UNIT, UNIT, marked=0.5)

    assert len(elements(chart, "circle", "edge")) == 2
    assert len(elements(chart, "circle", "dot")) == 3
    assert len(elements(chart, "polyline", "line")) == 1


def test_a_long_line_is_thinned_and_keeps_its_ends() -> None:
    many = tuple((index / 9999, 0.5) for index in range(10_000))

    (line,) = elements(line_chart("a", "A", [ChartLine("one", many, 0)], UNIT, UNIT), "polyline", "line")

    points = line["points"].split()
    assert len(points) == MAX_POINTS
    assert (points[0].split(",")[0], points[-1].split(",")[0]) == (str(float(LEFT)), str(float(WIDTH - RIGHT)))


def test_texts_are_escaped() -> None:
    axis = Axis("<b>&", 0, 1, SHARE)

    chart = line_chart("a", "<script>", [], axis, axis)

    assert "<script>" not in chart
    assert chart.count("&lt;b&gt;&amp;") == 2
    assert "&lt;script&gt;" in chart


def test_a_bin_s_bar_is_as_high_as_its_accuracy_and_says_its_numbers() -> None:
    """Four images with a confidence of 0.9, of which three are right; no other bin has any."""
    scores = torch.tensor([[0.9, 0.1]] * 4)

    chart = reliability_chart("a", "A", calibration(torch.tensor([0, 0, 0, 1]), scores))

    (bar,) = elements(chart, "rect", "bar")
    assert float(bar["height"]) == pytest.approx(0.75 * (HEIGHT - TOP - BOTTOM), abs=0.1)
    assert re.search(r"4 images, mean confidence 0\.900, accuracy 0\.750", chart)
    (tick,) = elements(chart, "line", "confidence")
    assert float(tick["y1"]) == pytest.approx(HEIGHT - BOTTOM - 0.9 * (HEIGHT - TOP - BOTTOM), abs=0.1)
