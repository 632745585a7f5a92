"""The threshold for a sensitivity or a specificity: kept over many splits, and None of too few images."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from lensmount_adapters.trust.operating import fit_operating

Kind = Literal["sensitivity", "specificity"]


def drawn(images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 2, images)
    score = 1 / (1 + np.exp(-random.normal(1.5 * (2 * truth - 1), 1.5)))
    return truth, np.stack([1 - score, score], 1)


@pytest.mark.parametrize("kind", ["sensitivity", "specificity"])
@pytest.mark.parametrize("value", [0.9, 0.95, 0.98])
def test_a_promise_is_kept_on_new_images_over_many_splits_and_not_by_far_too_much(kind: Kind, value: float) -> None:
    truth, scores = drawn(3_000)
    random = np.random.default_rng(0)
    found = []
    for _ in range(200):
        order = random.permutation(3_000)
        fit, measure = order[:1_000], order[1_000:]
        point = fit_operating(truth[fit], scores[fit], 1, "sick", kind, value)
        assert point.threshold is not None
        called = scores[measure, 1] >= point.threshold
        own = truth[measure] == (1 if kind == "sensitivity" else 0)
        found.append(float((called if kind == "sensitivity" else ~called)[own].mean()))
    assert value - 0.003 <= np.mean(found) <= value + 0.01


@pytest.mark.parametrize("kind", ["sensitivity", "specificity"])
@pytest.mark.parametrize(("images", "promised"), [(48, False), (49, True)])
def test_98_percent_need_49_images(kind: Kind, images: int, promised: bool) -> None:
    own = np.linspace(0.2, 0.8, images)
    truth = np.full(images, 1 if kind == "sensitivity" else 0)
    point = fit_operating(truth, np.stack([1 - own, own], 1), 1, "sick", kind, 0.98)
    assert point.images == images
    assert (point.threshold is not None) is promised
    if point.threshold is not None:
        kept = own >= point.threshold if kind == "sensitivity" else own < point.threshold
        assert kept.all()  # with so few images, nothing less than all of them proves it
