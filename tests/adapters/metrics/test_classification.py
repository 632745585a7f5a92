"""The metrics of a classifier."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from lensmount_adapters.metrics.classification import measure, wilson

TRUTH = torch.tensor([0, 0, 0, 0, 1, 1])
SCORES = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.7, 0.3], [0.3, 0.7], [0.75, 0.25]])


def test_two_classes_counted_by_hand() -> None:
    found = measure(TRUTH, SCORES, ["well", "ill"])

    assert found.count == 6
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.balanced_accuracy == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert found.confusion == ((3, 1), (1, 1))
    well, ill = found.classes
    assert (well.precision, well.recall, well.count) == pytest.approx((3 / 4, 3 / 4, 4))
    assert (ill.precision, ill.recall, ill.f1, ill.count) == (0.5, 0.5, 0.5, 2)
    # of the 8 pairs (ill, well) the ill one scores higher in 4 + 2
    assert found.auroc == pytest.approx(6 / 8)
    assert found.log_loss == pytest.approx(-np.mean(np.log([0.9, 0.8, 0.4, 0.7, 0.7, 0.25])), rel=1e-6)


def test_three_classes_agree_with_scikit_learn() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, 200)
    logits = random.normal(size=(200, 3)) + 1.5 * np.eye(3)[truth]
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)

    found = measure(torch.from_numpy(truth), torch.from_numpy(scores), ["a", "b", "c"])

    assert found.balanced_accuracy == pytest.approx(sk.balanced_accuracy_score(truth, scores.argmax(1)))
    assert found.auroc == pytest.approx(sk.roc_auc_score(truth, scores, multi_class="ovr"))
    assert found.log_loss == pytest.approx(sk.log_loss(truth, scores))
    assert sum(map(sum, found.confusion)) == 200


def test_a_class_that_does_not_occur_has_no_auroc_and_does_not_weigh_in_the_balance() -> None:
    found = measure(torch.tensor([0, 1]), torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]]), ["a", "b", "c"])

    assert found.classes[2].auroc is None
    assert found.classes[2].count == 0
    assert found.balanced_accuracy == 1.0
    assert found.auroc == 1.0


def test_images_of_one_class_only_have_no_auroc_at_all() -> None:
    found = measure(torch.tensor([0, 0]), torch.tensor([[0.8, 0.2], [0.1, 0.9]]), ["a", "b"])

    assert found.auroc is None
    assert found.accuracy == 0.5


def test_a_score_of_zero_for_the_truth_gives_a_finite_loss() -> None:
    assert math.isfinite(measure(torch.tensor([0, 1]), torch.tensor([[0.0, 1.0], [0.0, 1.0]]), ["a", "b"]).log_loss)


def test_wilson_s_interval_matches_the_textbook() -> None:
    # Agresti and Coull 1998: 10 of 10 gives 0.722 to 1
    low, high = wilson(10, 10)

    assert low == pytest.approx(0.7225, abs=1e-4)
    assert high == pytest.approx(1.0)
