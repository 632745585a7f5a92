"""Scored images: the worst mistakes, and the part to report."""

from __future__ import annotations

import pytest
import torch

from lensmount_adapters.metrics.classification import measure
from lensmount_adapters.metrics.scored import ScoredPart, decisive_part, worst_mistakes

LABELS = ["oak", "elm", "ash"]
TRUTH = torch.tensor([0, 0, 1, 2, 2])
SCORES = torch.tensor([[0.1, 0.8, 0.1], [0.9, 0.0, 0.1], [0.6, 0.3, 0.1], [0.8, 0.1, 0.1], [0.2, 0.2, 0.6]])
SCORED = ScoredPart(("b", "right", "c", "a", "right too"), TRUTH, SCORES, measure(TRUTH, SCORES, LABELS))


def test_the_worst_mistakes_are_the_most_confident_misclassified_images() -> None:
    found = worst_mistakes(SCORED, 24)

    assert [(m.path, m.truth, m.answer) for m in found] == [
        ("a", "ash", "oak"),
        ("b", "oak", "elm"),
        ("c", "elm", "oak"),
    ]
    assert (found[2].score, found[2].truth_score) == pytest.approx((0.6, 0.3))
    assert [m.path for m in worst_mistakes(SCORED, 1)] == ["a"]


def test_the_test_part_is_reported_then_validation_then_any_other() -> None:
    assert decisive_part({"validation": SCORED, "test": SCORED}) == "test"
    assert decisive_part({"all": SCORED, "validation": SCORED}) == "validation"
    assert decisive_part({"all": SCORED}) == "all"
    assert decisive_part({}) is None
