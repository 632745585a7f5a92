"""Strict JSON: keys are distinct and numbers are finite."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import pytest
from pydantic import BeforeValidator, ValidationError

from lensmount_adapters.strict import Strict, distinct_keys, first_fault, parse_json, whole


def test_distinct_keys_give_the_object_that_json_gives() -> None:
    text = '{"a": 1, "b": {"a": [2, {}]}}'

    assert json.loads(text, object_pairs_hook=distinct_keys) == json.loads(text)


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '[{"b": {"a": 1, "\\u0061": 2}}]'])
def test_a_key_that_appears_twice_is_refused_at_any_depth(text: str) -> None:
    with pytest.raises(ValueError, match="appears twice in one object"):
        json.loads(text, object_pairs_hook=distinct_keys)


def test_ordinary_json_is_read() -> None:
    assert parse_json('{"a": [1, 2.5, null], "b": {"ä": "☂"}}') == {"a": [1, 2.5, None], "b": {"ä": "☂"}}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "a": 1}', "appears twice in one object"),
        ('[{"b": {"a": 1, "a": 2}}]', "appears twice in one object"),
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


def test_unknown_fields_and_values_of_another_type_are_refused() -> None:
    class Size(Strict):
        width: int

    assert Size.model_validate({"width": 3}).width == 3
    for fields in ({"width": "3"}, {"width": 3.0}, {"width": 3, "height": 4}):
        with pytest.raises(ValidationError):
            Size.model_validate(fields)


def test_a_fault_is_named_in_a_short_printable_text_whatever_was_sent() -> None:
    class Numbered(Strict):
        number: int = 0

    with pytest.raises(ValidationError) as caught:
        Numbered.model_validate({"x\u202e" * 5000: 1})

    where, fault = first_fault(caught.value)
    assert len(where) <= 700  # each hidden character is shown by its code
    assert where.isprintable()
    assert "\u202e" not in where
    assert fault == "Extra inputs are not permitted"


class Choosing(Strict):
    """A model whose number is one of two."""

    number: Annotated[Literal[1, 2], BeforeValidator(whole)]


@pytest.mark.parametrize("value", [True, 1.0, 2.0, "1", None, 3])
def test_only_a_whole_number_is_one_of_several_numbers(value: object) -> None:
    assert Choosing(number=2).number == 2
    with pytest.raises(ValidationError):
        Choosing.model_validate({"number": value})
    with pytest.raises(ValidationError):
        Choosing.model_validate_json(json.dumps({"number": value}))
