"""An option knows what it allows and says so in words."""

from __future__ import annotations

from typing import Any

import pytest

from lensmount_adapters.options.option import Option


def option(**fields: Any) -> Option:
    return Option("init_std", fields.pop("type", "float"), "Training", help="Spread.", **fields)


@pytest.mark.parametrize(
    ("fields", "allowed", "refused", "words"),
    [
        ({"minimum": 1}, [1, 1e9], [0.999, float("nan")], "at least 1"),
        ({"above": 0}, [1e-300], [0, -1, float("nan")], "more than 0"),
        ({"minimum": 16, "maximum": 1024}, [16, 1024], [15, 1025], "16 to 1024"),
        ({"minimum": 0, "below": 1}, [0, 0.999], [1, -0.1], "0 to below 1"),
        ({"above": 0, "maximum": 1}, [0.1, 1], [0, 1.1], "more than 0 to 1"),
    ],
)
def test_the_ends_of_a_range_are_allowed_or_not_as_it_says(
    fields: dict[str, Any], allowed: list[float], refused: list[float], words: str
) -> None:
    one = option(default=5, **fields)
    assert one.allowed == words
    assert [one.expected_instead(value) for value in allowed] == [None] * len(allowed)
    assert [one.expected_instead(value) for value in refused] == [words] * len(refused)


def test_only_the_choices_are_allowed_and_an_alias_is_written_out() -> None:
    one = option(type="str", choices=("auto", "float32", "bfloat16"), aliases=(("bf16", "bfloat16"),), default="auto")
    assert one.expected_instead("float32") is None
    assert one.expected_instead("double") == "auto, float32 or bfloat16"
    assert one.full_word("bf16") == "bfloat16"
    assert (one.full_word("auto"), one.full_word(8)) == ("auto", 8)


def test_an_option_without_a_default_may_be_omitted() -> None:
    assert option(minimum=1).expected_instead(None) is None
    assert option(minimum=1, unset="all").shown_default == "all"
    assert option(default=0.5).shown_default == "0.5"
    assert option(type="bool", default=False).shown_default == ""


def test_jobs_may_have_a_lower_highest_value() -> None:
    assert option(minimum=1, job_maximum=256).highest_in_jobs == 256
    assert option(minimum=1, maximum=10).highest_in_jobs == 10
    assert (option(above=0).lowest, option(below=1, minimum=0).highest) == (0, 1)


def test_the_flag_and_the_words_of_a_message_follow_from_the_name() -> None:
    assert option().command_flag == "--init-std"
    assert option(flag="--spread").command_flag == "--spread"
    assert option().in_words("wide") == "init std 'wide'"
    assert option(wording="init-std {}").in_words(0) == "init-std 0"
