"""An option as its reader sees it: flag, range, default.

tests/test_one_source.py compares the table with that of the server.
"""

from __future__ import annotations

from typing import Any

import pytest

from lensmount_client._types.training_options import OPTIONS, Option


def option(name: str = "init_std", kind: str = "float", **more: Any) -> Option:
    return Option(name, kind, "Training", help="What it does.", **more)


def test_a_flag_is_the_name_with_dashes_unless_the_option_has_its_own() -> None:
    assert option().command_flag == "--init-std"
    assert option(flag="--std").command_flag == "--std"


@pytest.mark.parametrize(
    ("more", "lowest", "highest", "in_jobs"),
    [
        ({}, None, None, None),
        ({"minimum": 1}, 1, None, None),
        ({"above": 0, "below": 1}, 0, 1, 1),
        ({"minimum": 0, "job_maximum": 9}, 0, None, 9),
        ({"minimum": 0, "maximum": 20, "job_maximum": 9}, 0, 20, 9),
    ],
)
def test_a_range_has_ends_and_a_job_may_have_a_stricter_one(more: Any, lowest: Any, highest: Any, in_jobs: Any) -> None:
    one = option(**more)
    assert (one.lowest, one.highest, one.highest_in_jobs) == (lowest, highest, in_jobs)


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        ({"default": 8}, "8"),
        ({"default": 0.0}, "0.0"),
        ({"unset": "twice the rank"}, "twice the rank"),
        ({"default": "", "unset": "none"}, "none"),
        ({"kind": "bool", "default": False}, ""),
    ],
)
def test_the_default_is_shown_as_a_number_or_in_words(more: Any, shown: str) -> None:
    assert option(**more).shown_default == shown


def test_a_short_word_becomes_the_full_one_and_any_other_value_stays() -> None:
    one = option(kind="str", choices=("float32", "bfloat16"), aliases=(("bf16", "bfloat16"),))
    assert [one.full_word(value) for value in ("bf16", "float32", "odd", 7)] == ["bfloat16", "float32", "odd", 7]


def test_every_default_is_allowed_by_its_own_option() -> None:
    assert len(OPTIONS) > 40
    assert {one.name: one.expected_instead(one.default) for one in OPTIONS} == {one.name: None for one in OPTIONS}
