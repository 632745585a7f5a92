"""McNemar's exact test and the list of changed answers."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from lensmount_adapters.metrics.classification import measure
from lensmount_adapters.metrics.paired import Changed, mcnemar, pair
from lensmount_adapters.metrics.scored import ScoredPart

LABELS = ["oak", "elm"]


def part(answers: list[int], truth: list[int]) -> ScoredPart:
    y, s = torch.tensor(truth), torch.eye(2)[answers] * 0.8 + 0.1
    return ScoredPart(tuple("abcdefgh"[: len(truth)]), y, s, measure(y, s, LABELS))


def test_the_p_value_is_that_of_a_two_sided_binomial_test() -> None:
    for gained in range(25):
        for lost in range(25):
            expected = stats.binomtest(gained, gained + lost, 0.5).pvalue if gained + lost else 1.0
            assert mcnemar(gained, lost) == pytest.approx(expected, rel=1e-9)


def test_the_p_value_of_a_published_table() -> None:
    """Agresti, Categorical Data Analysis (1990), p. 350: approval of 1600 people, asked twice; 150 and 86 changed."""
    assert mcnemar(86, 150) == pytest.approx(3.716e-5, rel=1e-3)
    assert mcnemar(150, 86) == mcnemar(86, 150)


def test_thousands_of_changes_take_no_time_and_no_overflow() -> None:
    assert mcnemar(5000, 5000) == 1.0
    assert 0 <= mcnemar(4000, 6000) < 1e-80


def test_changed_answers_are_listed_and_counted_by_what_became_of_them() -> None:
    truth = [0, 0, 0, 1, 1, 1]

    found = pair(part([0, 1, 1, 1, 1, 0], truth), part([0, 0, 1, 0, 1, 1], truth), LABELS)

    assert (found.images, found.gained, found.lost) == (6, 2, 1)
    assert found.changed == (
        Changed("b", "oak", "elm", "oak"),
        Changed("d", "elm", "elm", "oak"),
        Changed("f", "elm", "oak", "elm"),
    )
    assert found.p_value == 1.0
    assert found.before.accuracy == 0.5
    assert found.to_json()["changed"] == 3
