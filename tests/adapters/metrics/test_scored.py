"""What follows from judged images: the worst mistakes, the part that counts, the curves worth drawing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lensmount_adapters.metrics.classification import measure
from lensmount_adapters.metrics.roc import roc_curves
from lensmount_adapters.metrics.scored import ScoredPart, decisive_part, worst_mistakes

LABELS = ["oak", "elm", "ash"]
TRUTH = torch.tensor([0, 0, 1, 2, 2])
SCORES = torch.tensor([[0.1, 0.8, 0.1], [0.9, 0.0, 0.1], [0.6, 0.3, 0.1], [0.8, 0.1, 0.1], [0.2, 0.2, 0.6]])
JUDGED = ScoredPart(("b", "right", "c", "a", "right too"), TRUTH, SCORES, measure(TRUTH, SCORES, LABELS))


def test_the_worst_mistakes_are_the_most_confident_wrong_answers() -> None:
    found = worst_mistakes(JUDGED, 24)

    assert [(m.path, m.truth, m.answer) for m in found] == [
        ("a", "ash", "oak"),
        ("b", "oak", "elm"),
        ("c", "elm", "oak"),
    ]
    assert (found[2].score, found[2].truth_score) == (pytest.approx(0.6), pytest.approx(0.3))
    assert [m.path for m in worst_mistakes(JUDGED, 1)] == ["a"]


def test_the_test_part_counts_then_validation_then_whatever_there_is() -> None:
    assert decisive_part({"validation": JUDGED, "test": JUDGED}) == "test"
    assert decisive_part({"all": JUDGED, "validation": JUDGED}) == "validation"
    assert decisive_part({"all": JUDGED}) == "all"
    assert decisive_part({}) is None


def test_the_area_under_a_curve_is_its_auroc(draw_judged) -> None:
    judged = draw_judged([f"c{n}" for n in range(5)], images=80, wrong=30)

    curves = roc_curves(judged)

    assert [curve.label for curve in curves] == ["c0", "c1", "c2", "c3", "c4"]
    for curve in curves:
        x, y = np.array(curve.points).T
        assert np.trapezoid(y, x) == pytest.approx(curve.auroc)


def test_of_two_classes_one_curve_is_drawn_and_of_many_the_lowest(draw_judged) -> None:
    many = draw_judged([f"c{n}" for n in range(30)], images=300, wrong=90)

    assert [curve.label for curve in roc_curves(draw_judged(["oak", "elm"]))] == ["elm"]
    lowest = sorted(row.auroc for row in many.metrics.classes)[:7]
    assert [curve.auroc for curve in roc_curves(many)] == lowest


def test_images_of_one_class_have_no_curve() -> None:
    truth, scores = torch.tensor([0, 0]), torch.tensor([[0.9, 0.1], [0.3, 0.7]])

    assert roc_curves(ScoredPart(("a", "b"), truth, scores, measure(truth, scores, ["oak", "elm"]))) == []
