"""Strict JSON: keys are distinct and numbers are finite."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from lensmount_adapters.strict import Strict, distinct_keys, finite_numbers


def test_distinct_keys_give_the_object_that_json_gives() -> None:
    text = '{"a": 1, "b": {"a": [2, {}]}}'

    assert json.loads(text, object_pairs_hook=distinct_keys) == json.loads(text)


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '[{"b": {"a": 1, "\\u0061": 2}}]'])
def test_a_key_that_appears_twice_is_refused_at_any_depth(text: str) -> None:
    with pytest.raises(ValueError, match="appears twice in one object"):
        json.loads(text, object_pairs_hook=distinct_keys)


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_words_that_are_not_json_numbers_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match=f"{word} is not a JSON number"):
        json.loads(f"[{word}]", parse_constant=finite_numbers)


def test_unknown_fields_and_values_of_another_type_are_refused() -> None:
    class Size(Strict):
        width: int

    assert Size.model_validate({"width": 3}).width == 3
    for fields in ({"width": "3"}, {"width": 3.0}, {"width": 3, "height": 4}):
        with pytest.raises(ValidationError):
            Size.model_validate(fields)
