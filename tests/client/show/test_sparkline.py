from __future__ import annotations

import pytest

from lensmount_client._show.sparkline import PLAIN_BARS, sparkline


@pytest.mark.parametrize(
    ("values", "drawn"),
    [
        ([], ""),
        ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"),
        ([7, 0], "█▁"),
        ([-1.0, None, 1.0], "▁ █"),
        ([0.5, 0.5], "▅▅"),
        ([3], "▅"),
        ([None, None], "  "),
    ],
)
def test_the_lowest_is_the_smallest_bar_and_the_highest_the_tallest(values: list[float | None], drawn: str) -> None:
    assert sparkline(values) == drawn


def test_more_values_than_the_width_are_averaged() -> None:
    assert sparkline([0, 0, 5, 5, 10, 10], width=3) == "▁▅█"
    assert sparkline([None, None, 1, 2, None, 3], width=3) == " ▁█"
    assert len(sparkline(list(range(1000)), width=40)) == 40
    assert sparkline(list(range(1000)), width=40) == "".join(sorted(sparkline(list(range(1000)), width=40)))


def test_a_terminal_without_unicode_gets_ascii() -> None:
    assert sparkline([0, 7], bars=PLAIN_BARS) == "_@"
