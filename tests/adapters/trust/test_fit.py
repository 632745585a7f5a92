"""All promises from one table of logits, and folds that keep groups together."""

from __future__ import annotations

import numpy as np
import pytest

from lensmount_adapters.adapter.manifest import CosineHead, LinearHead
from lensmount_adapters.trust.figures import figures
from lensmount_adapters.trust.fit import Wanted, fit_trust, folds_of


def drawn(images: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(7)
    truth = random.integers(0, classes, images)
    logits = random.normal(size=(images, classes))
    logits[np.arange(images), truth] += 3
    return truth, 2 * logits


def test_a_block_holds_every_promise_of_one_calibration() -> None:
    truth, logits = drawn(600)
    wanted = Wanted(coverage=0.9, accuracy=0.97, positive="b", kind="sensitivity", value=0.95)
    folds = np.arange(600) % 4
    scaling, trust = fit_trust(truth, logits, folds, "abc", LinearHead(), "part", wanted)
    assert trust.calibration is not None
    assert trust.conformal is not None
    assert trust.selective is not None
    assert trust.operating is not None
    assert trust.calibration.temperature == scaling.temperature
    assert (trust.calibration.images, trust.calibration.source) == (600, "part")
    assert (trust.conformal.coverage, trust.selective.accuracy) == (0.9, 0.97)
    assert trust.operating.images == int((truth == 1).sum())
    assert trust.familiarity is None
    own = figures(truth, scaling.scores(logits))
    assert trust.calibration.brier == pytest.approx(own.brier.value, abs=0.004)  # with the scaling of the other folds
    assert trust.calibration.ece < figures(truth, logits_scores(logits)).ece.value


def logits_scores(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits)
    scores: np.ndarray = raised / raised.sum(1, keepdims=True)
    return scores


def test_without_a_positive_label_there_is_no_operating_point() -> None:
    truth, logits = drawn(300)
    _, trust = fit_trust(truth, logits, np.arange(300) % 4, "abc", LinearHead(), "cross-fitted", Wanted())
    assert trust.operating is None


def test_folds_keep_groups_together_and_classes_even() -> None:
    random = np.random.default_rng(0)
    groups = random.integers(0, 60, 400)
    truth = groups % 3
    folds = folds_of(truth.tolist(), groups.tolist())
    assert set(folds.tolist()) == {0, 1, 2, 3}
    for group in range(60):
        assert len(set(folds[groups == group].tolist())) <= 1
    for fold in range(4):
        assert np.bincount(truth[folds == fold], minlength=3) == pytest.approx(np.bincount(truth) / 4, abs=25)
    assert np.array_equal(folds, folds_of(truth.tolist(), groups.tolist()))
    assert not folds_of([0, 0, 0, 1, 1, 1, 1, 1], range(8)).any()  # three images cannot be in four folds
    assert not np.array_equal(folds, folds_of(truth.tolist(), groups.tolist(), seed=1))


def test_answers_that_are_wrong_and_surer_than_float32_can_tell_are_not_promised_to_be_right() -> None:
    """30 of 200 answers are wrong. Their scores differ from those of right answers by less than float32 holds."""
    wrong = np.arange(200) % 20 < 3
    truth = np.arange(200) // 100
    logits = np.where(np.eye(2)[np.where(wrong, 1 - truth, truth)] == 1, np.where(wrong, 100, 150)[:, None], 0.0)
    _, trust = fit_trust(truth, logits, folds_of(truth.tolist(), range(200)), "ab", CosineHead(dim=2), "part", Wanted())
    assert trust.selective is not None
    assert trust.selective.threshold is None
