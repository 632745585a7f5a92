"""A message about broken files says how many there are, what each is, and their names."""

from __future__ import annotations

from lensmount_adapters.data.broken_files import Unreadable, broken_files


def test_files_with_one_reason_are_listed_together_and_the_most_frequent_reason_comes_first() -> None:
    broken = [Unreadable("a/1.png", "cut short"), *(Unreadable(f"b/{n}.tif", "has 2 frames") for n in range(7))]

    assert broken_files("cells", 100, broken) == (
        "cells: 8 of 100 images cannot be read:\n"
        "  7 files, b/0.tif, b/1.tif, b/2.tif, b/3.tif, b/4.tif, ...: has 2 frames\n"
        "  a/1.png: cut short"
    )


def test_a_message_stays_short_whatever_the_names_and_reasons_are() -> None:
    broken = [Unreadable(f"a/{'n' * 900}{n}.png", f"reason {n % 9}") for n in range(5000)]

    message = broken_files("cells", 5000, broken)

    assert "5000 of 5000" in message
    assert message.endswith("and files with 3 other reasons")
    assert len(message) < 4000
