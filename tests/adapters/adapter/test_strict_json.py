"""JSON from outside is read strictly."""

from __future__ import annotations

import pytest

from lensmount_adapters.adapter.strict_json import parse_json


def test_ordinary_json_is_read() -> None:
    assert parse_json('{"a": [1, 2.5, null], "b": {"ä": "☂"}}') == {"a": [1, 2.5, None], "b": {"ä": "☂"}}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "a": 1}', "the same key twice"),
        ('[{"b": {"a": 1, "a": 2}}]', "the same key twice"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ("[-Infinity]", "-Infinity is not a JSON number"),
        ("[1e999]", "not JSON compliant"),
        (r'["\ud800"]', "surrogates not allowed"),
        ("{", "Expecting property name"),
    ],
)
def test_json_that_other_parsers_may_read_differently_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(text)


def test_the_caller_reads_whole_numbers() -> None:
    def natural(text: str) -> int:
        if text.startswith("-"):
            raise ValueError("negative")
        return int(text)

    assert parse_json("[3]", parse_int=natural) == [3]
    with pytest.raises(ValueError, match="negative"):
        parse_json("[-3]", parse_int=natural)


def test_json_that_is_nested_too_deep_is_an_error() -> None:
    with pytest.raises(RecursionError):
        parse_json("[" * 100_000 + "]" * 100_000)
