"""Out-of-fold probabilities: no image is checked by a head that has seen its group."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from lensmount_adapters.quality.out_of_fold import group_folds, out_of_fold_probabilities, standardised


def blobs(count: int = 60, groups: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Two classes of points around (2, 2, 0) and (-2, -2, 0)."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    features = draw.normal(size=(count, 3)) + np.where(labels[:, None] == 0, 2.0, -2.0) * np.array([1, 1, 0])
    return features.astype(np.float32), labels, [f"g{index // (count // groups)}" for index in range(count)]


def test_no_group_is_on_both_sides_of_a_fold_and_every_image_is_asked_once() -> None:
    _, labels, groups = blobs()

    folds = group_folds(labels, groups)

    for fitted, asked in folds:
        assert not {groups[i] for i in fitted} & {groups[i] for i in asked}
    assert sorted(index for _, asked in folds for index in asked) == list(range(len(labels)))


def test_each_row_is_that_of_a_head_fitted_on_the_other_folds() -> None:
    features, labels, groups = blobs()

    found = out_of_fold_probabilities(features, labels, groups, 2, strength=1.5)

    scaled = (features - features.mean(0)) / features.std(0)
    for fitted, asked in group_folds(labels, groups):
        head = LogisticRegression(C=0.5, class_weight="balanced", tol=1e-6).fit(scaled[fitted], labels[fitted])
        np.testing.assert_allclose(found[asked], head.predict_proba(scaled[asked]), atol=2e-3)


def test_separable_classes_are_told_apart() -> None:
    features, labels, groups = blobs()

    found = out_of_fold_probabilities(features, labels, groups, 2, strength=3.0)

    assert (found.argmax(axis=1) == labels).mean() > 0.95
    np.testing.assert_allclose(found.sum(axis=1), 1.0)


def test_images_whose_class_is_all_in_one_group_are_not_judged() -> None:
    features, labels, groups = blobs()
    labels = labels.copy()
    labels[:6] = 2
    groups = ["only"] * 6 + groups[6:]

    found = out_of_fold_probabilities(features, labels, groups, 3)

    assert np.isnan(found[:6]).all()
    assert np.isfinite(found[6:]).all()


@pytest.mark.parametrize("groups", [["a"] * 60, ["a"] * 30 + ["b"] * 30])
def test_one_group_judges_nothing_and_two_groups_judge_each_other(groups: list[str]) -> None:
    features, labels, _ = blobs()

    found = out_of_fold_probabilities(features, labels, groups, 2)

    assert np.isfinite(found).all() == (len(set(groups)) == 2)


def test_classes_of_one_image_each_are_not_judged() -> None:
    found = out_of_fold_probabilities(np.eye(3, dtype=np.float32), np.arange(3), ["a", "b", "c"], 3)

    assert np.isnan(found).all()


def test_a_constant_column_becomes_zero() -> None:
    scaled = standardised(np.array([[1.0, 5.0], [3.0, 5.0]]))

    assert scaled.tolist() == [[-1.0, 0.0], [1.0, 0.0]]
