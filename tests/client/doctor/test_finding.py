"""How many problems and notes there are, in one sentence."""

from __future__ import annotations

import pytest

from lensmount_client._doctor.finding import Finding, of_all


@pytest.mark.parametrize(
    ("levels", "sentence"),
    [
        (["ok"], "Nothing is wrong."),
        (["ok", "note"], "Found 1 note."),
        (["problem", "note", "note"], "Found 1 problem and 2 notes."),
    ],
)
def test_the_report_ends_with_what_was_found(levels: list[str], sentence: str) -> None:
    assert of_all([Finding("part", level, "something") for level in levels]) == sentence
