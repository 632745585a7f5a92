"""Which ROC curves are plotted, and that they are the curves of their AUROC."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
import torch

from lensmount_adapters.metrics.classification import measure
from lensmount_adapters.metrics.roc import roc_curves
from lensmount_adapters.metrics.scored import ScoredPart

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawJudged


def test_the_area_under_a_curve_is_its_auroc(draw_judged: DrawJudged) -> None:
    scored = draw_judged([f"c{n}" for n in range(5)], images=80, wrong=30)

    curves = roc_curves(scored)

    assert [curve.label for curve in curves] == ["c0", "c1", "c2", "c3", "c4"]
    for curve in curves:
        x, y = np.array(curve.points).T
        assert np.trapezoid(y, x) == pytest.approx(curve.auroc)


def test_two_classes_give_one_curve_and_many_classes_the_lowest_ones(draw_judged: DrawJudged) -> None:
    many = draw_judged([f"c{n}" for n in range(30)], images=300, wrong=90)

    assert [curve.label for curve in roc_curves(draw_judged(["oak", "elm"]))] == ["elm"]
    lowest = sorted(cast("float", row.auroc) for row in many.metrics.classes)[:7]
    assert [curve.auroc for curve in roc_curves(many)] == lowest


def test_images_of_one_class_have_no_curve() -> None:
    truth, scores = torch.tensor([0, 0]), torch.tensor([[0.9, 0.1], [0.3, 0.7]])

    assert roc_curves(ScoredPart(("a", "b"), truth, scores, measure(truth, scores, ["oak", "elm"]))) == []
