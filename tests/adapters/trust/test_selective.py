"""The threshold for accepting an answer, compared with every threshold tried one by one."""

from __future__ import annotations

import numpy as np
import pytest

from lensmount_adapters.trust.selective import fit_selective


def drawn(images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are right as often as they say, with two digits, so that many are equal."""
    random = np.random.default_rng(seed)
    score = random.uniform(0.5, 1, images).round(2)
    truth = (random.random(images) > score).astype(int)
    return truth, np.stack([score, 1 - score], 1)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("accuracy", [0.8, 0.9, 0.97])
def test_no_lower_threshold_keeps_the_rule(seed: int, accuracy: float) -> None:
    truth, scores = drawn(400, seed)
    allowed = []
    for threshold in set(scores.max(1).tolist()):
        taken = scores.max(1) >= threshold
        errors = int((scores.argmax(1) != truth)[taken].sum())
        if (errors + 1) <= (1 - accuracy) * (taken.sum() + 1) + 1e-9:
            allowed.append((threshold, taken.mean()))
    found = fit_selective(truth, scores, accuracy)
    if allowed:
        assert found.threshold == min(allowed)[0]
        assert found.share == pytest.approx(min(allowed)[1], abs=1e-6)
    else:
        assert found.threshold is None


@pytest.mark.parametrize(("images", "promised"), [(98, False), (99, True)])
def test_99_percent_need_99_accepted_images_without_an_error(images: int, promised: bool) -> None:
    scores = np.tile([0.9, 0.1], (images, 1))
    found = fit_selective(np.zeros(images, np.int64), scores, 0.99)
    assert (found.threshold is not None) is promised
    assert found.share == (1.0 if promised else 0.0)


def test_new_images_are_right_as_often_as_promised() -> None:
    truth, scores = drawn(4_000, 5)
    accuracies = []
    random = np.random.default_rng(0)
    for _ in range(100):
        order = random.permutation(4_000)
        fit, measure = order[:2_000], order[2_000:]
        threshold = fit_selective(truth[fit], scores[fit], 0.9).threshold
        assert threshold is not None
        taken = scores[measure].max(1) >= threshold
        accuracies.append(float((scores[measure].argmax(1) == truth[measure])[taken].mean()))
    assert np.mean(accuracies) > 0.895
