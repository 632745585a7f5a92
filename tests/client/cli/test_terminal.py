"""Ages and sizes in the terminal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from lensmount_client._cli.terminal import age, file_size

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (40, "40 s"), (60, "1 min"), (3599, "60 min"), (3600, "1 h"), (86_400, "24 h"), (172_800, "2 days")],
)
def test_an_age_is_shown_in_a_suitable_unit(seconds: int, text: str) -> None:
    assert age(NOW - timedelta(seconds=seconds), NOW) == text


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (999, "999 B"), (1_234_567, "1.2 MB"), (5 * 10**9, "5.0 GB")])
def test_a_size_is_shown_in_a_suitable_unit(size: int, text: str) -> None:
    assert file_size(size) == text
