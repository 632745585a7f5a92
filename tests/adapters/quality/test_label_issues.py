"""Label issues equal those of cleanlab 2.9 on the same probabilities."""

from __future__ import annotations

import json

import numpy as np
from tests.adapters.quality.cleanlab_cases import TABLE, cases, digest

from lensmount_adapters.quality.label_issues import find_label_issues


def test_flags_and_ranking_are_those_of_cleanlab_in_300_cases() -> None:
    expected = json.loads(TABLE.read_text())

    for (labels, probabilities), (count, flags, ranking) in zip(cases(), expected, strict=True):
        issues = find_label_issues(labels, probabilities)
        assert int(issues.flags.sum()) == count
        assert digest(np.flatnonzero(issues.flags)) == flags
        assert digest(issues.ranked()) == ranking


def test_the_cases_have_flags_and_have_none() -> None:
    counts = [row[0] for row in json.loads(TABLE.read_text())]

    assert min(counts) == 0
    assert max(counts) > 10


def test_an_image_that_is_surely_of_another_class_is_flagged_with_that_class() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 1])
    sure = [[0.9, 0.1]] * 3 + [[0.1, 0.9]] * 3 + [[0.95, 0.05]]

    issues = find_label_issues(labels, np.array(sure))

    assert issues.flags.tolist() == [False] * 6 + [True]
    assert issues.ranked()[0] == 6
    assert issues.suggested[6] == 0


def test_a_tie_is_in_favour_of_the_label() -> None:
    issues = find_label_issues(np.array([0, 1]), np.array([[0.5, 0.5], [0.5, 0.5]]))

    assert not issues.flags.any()


def test_no_images_have_no_issues() -> None:
    issues = find_label_issues(np.empty(0, int), np.empty((0, 2)))

    assert len(issues.flags) == len(issues.ranked()) == 0
