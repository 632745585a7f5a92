"""The words for what an answer is worth."""

from __future__ import annotations

from typing import Any

import pytest

from lensmount_client import Trust, TrustBasis
from lensmount_client._types.trust import any_of, trust_words


@pytest.mark.parametrize(
    ("decision", "labels", "words"),
    [
        ("accept", ("a",), "sure"),
        ("accept", None, "reliability not measured"),
        ("uncertain", ("smoking", "notsmoking"), "not sure: smoking or notsmoking"),
        ("uncertain", ("a",), "not sure: a"),
        ("uncertain", (), "not sure"),
        ("uncertain", None, "not sure"),
        ("unfamiliar", ("a",), "unlike the images this was trained on"),
    ],
)
def test_each_decision_has_its_words(decision: str, labels: Any, words: str) -> None:
    assert trust_words(Trust(decision, 0.7, labels, None, None)) == words


def test_an_accepted_answer_is_sure_if_its_adapter_was_calibrated() -> None:
    assert trust_words(Trust("accept", 0.7, None, None, TrustBasis(90, 0.02, None))) == "sure"


def test_an_adapter_that_promises_nothing_has_none() -> None:
    assert trust_words(None) == ""


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("a", "a"),
        ("ab", "a or b"),
        ("abc", "a, b or c"),
        ("abcd", "a, b, c or 1 other"),
        ("abcde", "a, b, c or 2 others"),
    ],
)
def test_many_labels_are_named_in_part(labels: str, words: str) -> None:
    assert any_of(list(labels)) == words
