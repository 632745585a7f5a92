"""The four figures against scikit-learn, and their intervals against resampling one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from lensmount_adapters.metrics.calibration import calibration
from lensmount_adapters.trust.figures import figures


def drawn(classes: int, images: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(classes)
    scores = random.dirichlet(np.full(classes, 0.4), images)
    return random.integers(0, classes, images), scores


@pytest.mark.parametrize(("classes", "images"), [(2, 40), (2, 700), (3, 300), (7, 500)])
def test_brier_and_log_loss_are_those_of_scikit_learn(classes: int, images: int) -> None:
    truth, scores = drawn(classes, images)
    found = figures(truth, scores)
    labels = list(range(classes))
    binary = classes == 2
    brier = brier_score_loss(truth, scores[:, 1] if binary else scores, labels=labels)
    assert found.brier.value == pytest.approx(brier, abs=1e-12)
    assert found.log_loss.value == pytest.approx(log_loss(truth, scores, labels=labels), abs=1e-6)
    assert found.ece.value == pytest.approx(calibration(torch.from_numpy(truth), torch.from_numpy(scores)).error)


@pytest.mark.parametrize(("classes", "images"), [(2, 700), (3, 300)])
def test_the_adaptive_error_has_the_quantile_bins_of_scikit_learn(classes: int, images: int) -> None:
    truth, scores = drawn(classes, images)
    confidence, right = scores.max(1), scores.argmax(1) == truth
    accuracy, mean = calibration_curve(right, confidence, n_bins=15, strategy="quantile")
    edges = np.percentile(confidence, np.linspace(0, 1, 16) * 100)
    counts = np.bincount(np.searchsorted(edges[1:-1], confidence), minlength=15)
    expected = (np.abs(accuracy - mean) * counts[counts > 0]).sum() / images
    assert figures(truth, scores).adaptive_ece.value == pytest.approx(expected, abs=1e-12)


def test_an_interval_holds_the_percentiles_of_resampled_images() -> None:
    truth, scores = drawn(3, 150)
    random, values = np.random.default_rng(99), []
    for _ in range(400):
        chosen = random.integers(0, 150, 150)
        y, s = truth[chosen], scores[chosen]
        own = s[np.arange(150), y]
        brier = np.mean(
            [sum((p - (c == label)) ** 2 for c, p in enumerate(row)) for label, row in zip(y, s, strict=True)]
        )
        values.append((calibration(torch.from_numpy(y), torch.from_numpy(s)).error, brier, -np.log(own).mean()))
    low, high = np.percentile(values, [2.5, 97.5], axis=0)
    found = figures(truth, scores)
    for figure, *ends in zip((found.ece, found.brier, found.log_loss), low, high, strict=True):
        assert (figure.low, figure.high) == pytest.approx(ends, rel=0.08)


def test_the_same_images_give_the_same_interval_and_one_image_gives_none_to_speak_of() -> None:
    truth, scores = drawn(3, 150)
    assert figures(truth, scores) == figures(truth, scores)
    one = figures(truth[:1], scores[:1])
    assert one.brier.low == one.brier.value == one.brier.high


def test_fields_are_those_of_the_trust_block() -> None:
    fields = figures(*drawn(2, 60)).to_fields()
    assert list(fields) == [
        f"{name}{end}" for name in ("ece", "adaptive_ece", "brier", "log_loss") for end in ("", "_interval")
    ]
