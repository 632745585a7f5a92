from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from lensmount_adapters.draft.solve import (
    STRENGTH,
    balanced_accuracy,
    cross_validated,
    group_folds,
    solve,
    temperature_of,
)

Drawn = tuple[np.ndarray, np.ndarray]


def drawn(counts: tuple[int, ...], width: int = 40, seed: int = 0) -> Drawn:
    """Features of classes around different means, with one column that is constant and columns of all sizes."""
    chance = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    means = chance.normal(size=(len(counts), width))
    x = (means[labels] + chance.normal(size=(len(labels), width))) * 10.0 ** chance.integers(-3, 3, width)
    x[:, 0] = 7.0
    return x, labels


@pytest.mark.parametrize("counts", [(8, 8, 8), (30, 5, 12), (90, 60, 40)])
def test_the_probabilities_are_those_of_scikit_learn(counts: tuple[int, ...]) -> None:
    x, labels = drawn(counts)
    spread = x.std(0)
    scaled = (x - x.mean(0)) / np.where(spread > 1e-6, spread, np.inf) / np.sqrt(x.shape[1])
    theirs = LogisticRegression(C=STRENGTH, class_weight="balanced", tol=1e-10, max_iter=10_000).fit(scaled, labels)

    ours = softmax(solve(x, labels, 3).logits(x), axis=1)

    assert np.allclose(ours, theirs.predict_proba(scaled), atol=1e-4)


def test_a_column_that_is_constant_has_no_weight() -> None:
    x, labels = drawn((8, 8))
    assert (solve(x, labels, 2).weight[:, 0] == 0).all()


def test_no_group_is_in_two_folds_and_each_class_is_left_when_one_is_held_out() -> None:
    labels = np.repeat([0, 1, 2], [30, 20, 12])
    groups = np.concatenate([np.arange(30) // 3, 10 + np.arange(20) // 5, 14 + np.arange(12) // 6])

    folds = group_folds(labels, groups, 3)

    assert folds is not None
    assert all(len(np.unique(folds[groups == group])) == 1 for group in np.unique(groups))
    assert all(len(np.unique(labels[folds != fold])) == 3 for fold in np.unique(folds))
    assert len(np.unique(folds)) == 2  # the third class has two groups


def test_a_class_of_one_group_cannot_be_cross_validated() -> None:
    x, labels = drawn((6, 6))
    groups = np.where(labels == 0, 0, np.arange(12))
    assert cross_validated(x, labels, groups, 2) is None


def test_a_held_out_image_has_the_logits_of_a_head_that_has_not_seen_its_group() -> None:
    x, labels = drawn((10, 10))
    groups = np.arange(20) // 2
    folds = group_folds(labels, groups, 2)
    assert folds is not None

    logits = cross_validated(x, labels, groups, 2)

    assert logits is not None
    for fold in np.unique(folds):
        held = folds == fold
        assert np.allclose(logits[held], solve(x[~held], labels[~held], 2).logits(x[held]))


def test_labels_that_say_nothing_about_the_features_have_a_held_out_accuracy_of_chance() -> None:
    chance = np.random.default_rng(1)
    x, labels = chance.normal(size=(120, 200)), chance.integers(0, 2, 120)
    logits = cross_validated(x, labels, np.arange(120), 2)
    assert logits is not None
    assert balanced_accuracy(labels, logits) == pytest.approx(0.5, abs=0.14)  # 3 standard deviations
    assert balanced_accuracy(labels, solve(x, labels, 2).logits(x)) > 0.9


def test_the_temperature_has_the_least_loss() -> None:
    chance = np.random.default_rng(2)
    labels = chance.integers(0, 3, 300)
    logits = 6 * (np.eye(3)[labels] + chance.normal(size=(300, 3)))
    weights = 1 / np.bincount(labels)[labels]

    def loss(temperature: float) -> float:
        return -float(np.mean(weights * log_softmax(logits / temperature, axis=1)[np.arange(300), labels]))

    expected = minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-8}).x
    assert temperature_of(labels, logits) == pytest.approx(expected, rel=1e-4)


def test_balanced_accuracy_is_the_mean_recall_of_the_classes_that_occur() -> None:
    logits = np.eye(3)[[0, 0, 1, 0]]
    assert balanced_accuracy(np.array([0, 0, 1, 1]), logits) == pytest.approx((1 + 0.5) / 2)
