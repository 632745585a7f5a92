"""Expected calibration error and the bins of the reliability diagram."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lensmount_adapters.metrics.calibration import calibration


def by_hand(truth: list[int], scores: list[list[float]], bins: int) -> tuple[float, list[tuple[int, float, float]]]:
    """The definition of Guo et al. 2017, image by image in Python's own floats."""
    members: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for label, row in zip(truth, scores, strict=True):
        confidence = max(row)
        for index in range(bins):
            if index / bins < confidence <= (index + 1) / bins:
                members[index].append((confidence, row.index(confidence) == label))
    error, rows = 0.0, []
    for inside in members:
        if inside:
            confidence = sum(c for c, _ in inside) / len(inside)
            accuracy = sum(right for _, right in inside) / len(inside)
            error += len(inside) / len(truth) * abs(accuracy - confidence)
            rows.append((len(inside), confidence, accuracy))
        else:
            rows.append((0, 0.0, 0.0))
    return error, rows


@pytest.mark.parametrize(("classes", "images"), [(2, 1), (2, 37), (3, 200), (50, 500)])
def test_error_and_bins_are_those_of_the_definition(classes: int, images: int) -> None:
    random = np.random.default_rng(classes)
    scores = random.dirichlet(np.full(classes, 0.3), images)
    truth = random.integers(0, classes, images)

    found = calibration(torch.from_numpy(truth), torch.from_numpy(scores))

    error, rows = by_hand(truth.tolist(), scores.tolist(), 15)
    assert found.error == pytest.approx(error, abs=1e-12)
    assert [bin_.count for bin_ in found.bins] == [count for count, _, _ in rows]
    for bin_, (count, confidence, accuracy) in zip(found.bins, rows, strict=True):
        if count:
            assert (bin_.confidence, bin_.accuracy) == pytest.approx((confidence, accuracy))
        else:
            assert (bin_.confidence, bin_.accuracy) == (None, None)


def test_scores_that_are_always_correct_and_certain_have_no_error() -> None:
    found = calibration(torch.tensor([0, 1]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))

    assert found.error == 0
    assert found.bins[-1].count == 2


def test_a_confidence_of_zero_belongs_to_the_first_bin() -> None:
    found = calibration(torch.tensor([0]), torch.zeros(1, 2))  # a sigmoid head may say no to everything

    assert found.bins[0].count == 1
    assert found.error == 1


def test_four_predictions_counted_by_hand() -> None:
    # two bins; (0, 0.5] is empty, (0.5, 1] has the confidences 0.6, 0.7, 0.8 and 0.9, of which three are correct
    scores = torch.tensor([[0.6, 0.4], [0.7, 0.3], [0.8, 0.2], [0.1, 0.9]], dtype=torch.float64)

    found = calibration(torch.tensor([0, 0, 1, 1]), scores, bins=2)

    assert found.error == pytest.approx(abs(0.75 - 0.75))
    assert found.to_json()["bins"][1] == {
        "lower": 0.5,
        "upper": 1.0,
        "count": 4,
        "confidence": pytest.approx(0.75),
        "accuracy": 0.75,
    }
