"""Sets of labels: thresholds by the definition, coverage over many splits, and how many images a promise needs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lensmount_adapters.trust.conformal import fit_conformal, images_needed, label_sets, nonconformity


def drawn(images: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores that tell something of them, but not all."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, images)
    logits = random.normal(size=(images, classes))
    logits[np.arange(images), truth] += 2
    return truth, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


@pytest.mark.parametrize(("coverage", "needed"), [(0.95, 19), (0.99, 99), (0.9, 9), (0.5, 1)])
def test_a_promise_needs_this_many_images_of_a_class(coverage: float, needed: int) -> None:
    assert images_needed(coverage) == needed
    truth, scores = drawn(4 * needed + 50, 2)
    order = np.concatenate([np.flatnonzero(truth == 0)[:needed], np.flatnonzero(truth == 1)[: needed - 1]])
    found = fit_conformal(truth[order], scores[order], coverage)
    assert found.images == (needed, needed - 1)
    assert found.thresholds[0] is not None
    assert found.thresholds[1] is None
    assert label_sets(found, scores)[:, 1].all()  # no guarantee, so the label is never left out


def by_definition(truth: np.ndarray, scores: np.ndarray, coverage: float, label: int) -> float:
    """The smallest value that at least ceil((n + 1) coverage) of the n scores of the class do not exceed."""
    own = [1 - float(row[label]) for row, y in zip(scores, truth, strict=True) if y == label]
    wanted = math.ceil(round((len(own) + 1) * coverage, 9))
    return next(value for value in sorted(own) if sum(each <= value for each in own) >= wanted)


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95, 0.99])
def test_thresholds_of_lac_are_those_of_the_definition(coverage: float) -> None:
    truth, scores = drawn(900, 3)
    found = fit_conformal(truth, scores, coverage)
    assert found.method == "lac"
    for label, threshold in enumerate(found.thresholds):
        assert threshold == by_definition(truth, scores, coverage, label)


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_each_class_is_covered_as_promised_over_two_hundred_splits(classes: int) -> None:
    truth, scores = drawn(300 * classes, classes)
    random = np.random.default_rng(1)
    covered: list[list[float]] = []
    for _ in range(200):
        order = random.permutation(len(truth))
        fit, measure = order[: len(truth) // 2], order[len(truth) // 2 :]
        sets = label_sets(fit_conformal(truth[fit], scores[fit], 0.95), scores[measure])
        right = sets[np.arange(len(measure)), truth[measure]]
        covered.append([float(right[truth[measure] == label].mean()) for label in range(classes)])
    means = np.mean(covered, 0)
    assert means == pytest.approx(np.full(classes, 0.95), abs=0.01)


def test_the_score_of_raps_is_the_sum_above_the_label_and_a_penalty_for_late_ranks() -> None:
    scores = np.array([[0.1, 0.5, 0.05, 0.3, 0.05]])
    found = nonconformity(scores, 0.01, 2)
    assert found[0] == pytest.approx([0.8 + 0.01, 0.0, 0.9 + 0.02, 0.5, 0.95 + 0.03])


@pytest.mark.parametrize("certainty", [2, 8, 20, 40])
def test_a_set_of_raps_holds_the_best_label_however_sure_a_server_s_float32_scores_are(certainty: int) -> None:
    random = np.random.default_rng(certainty)
    truth = random.integers(0, 6, 1_200)
    logits = random.normal(size=(1_200, 6)) * math.sqrt(certainty)
    logits[np.arange(1_200), truth] += certainty
    scores = np.exp(logits - logits.max(1, keepdims=True))
    scores /= scores.sum(1, keepdims=True)
    served = scores[1::2].astype(np.float32).astype(np.float64)
    sets = label_sets(fit_conformal(truth[::2], scores[::2], 0.95), served)
    rows = np.arange(600)
    assert sets[rows, served.argmax(1)].all()
    assert sets[rows, truth[1::2]].mean() > 0.93


def test_from_five_classes_on_raps_is_used_and_its_penalty_keeps_every_size_of_set_honest() -> None:
    truth, scores = drawn(4_000, 8)
    fitted = fit_conformal(truth[::2], scores[::2], 0.9)
    assert fitted.method == "raps"
    assert fitted.penalty in (0.001, 0.01, 0.1, 0.2, 0.5)
    sets = label_sets(fitted, scores[1::2])
    right = sets[np.arange(2_000), truth[1::2]]
    assert right.mean() == pytest.approx(0.9, abs=0.02)
    for size in range(1, 5):
        inside = sets.sum(1) == size
        if inside.sum() > 100:
            assert right[inside].mean() > 0.8


def test_a_class_without_any_image_has_no_threshold() -> None:
    truth, scores = drawn(300, 3)
    kept = truth != 1
    found = fit_conformal(truth[kept], scores[kept], 0.95)
    assert found.thresholds[1] is None
    assert found.images[1] == 0
