"""The schedule of a run: length, learning rate, early stopping, and the epoch to keep."""

from __future__ import annotations

import numpy as np
import pytest

from lensmount_adapters.training.schedule import (
    EpochRecord,
    automatic_epochs,
    has_stalled,
    is_best_so_far,
    learning_rate_at,
)


@pytest.mark.parametrize(
    ("accuracies", "images", "kept"),
    [
        ([0.80, 0.90, 0.90], 100, 3),  # a tie goes to the later epoch
        ([0.80, 0.90, 0.88], 100, 3),  # one standard error of 0.90 on 100 images is 0.03
        ([0.80, 0.90, 0.86], 100, 2),
        ([0.80, 0.90, 0.88], 10_000, 2),  # and 0.003 on 10,000
        ([0.95, 0.80, 0.90, 0.94], 100, 4),
        ([1.0, 0.99], 100, 1),  # a perfect epoch leaves no doubt
        ([None, None], 0, 2),
    ],
)
def test_the_latest_epoch_within_one_standard_error_of_the_best_is_kept(
    accuracies: list[float] | list[None], images: int, kept: int
) -> None:
    history = [EpochRecord(n, 0.5, 0.5, None, accuracy) for n, accuracy in enumerate(accuracies, start=1)]

    best = [n for n in range(1, len(history) + 1) if is_best_so_far(history[:n], images)]
    assert best[-1] == kept


def test_the_learning_rate_warms_up_linearly_and_falls_along_half_a_cosine() -> None:
    rates = [learning_rate_at(step, 100, 1.0, 0.1) for step in range(100)]

    assert rates[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] == pytest.approx((1 + np.cos(np.pi * 89 / 90)) / 2)
    assert learning_rate_at(0, 1, 1.0, 0.1) == 1.0


def test_small_datasets_are_trained_for_more_epochs() -> None:
    assert [automatic_epochs(steps) for steps in (1, 4, 6, 25, 1000)] == [100, 25, 17, 12, 12]


@pytest.mark.parametrize(
    ("accuracies", "patience", "stalled"),
    [
        ([0.5, 0.6, 0.7], 2, False),
        ([0.7, 0.6, 0.7], 2, True),
        ([0.7, 0.6], 2, False),
        ([0.7, 0.6, 0.5, 0.8], 2, False),
        ([0.7, 0.6, 0.5, 0.4], None, False),
    ],
)
def test_a_run_has_stalled_when_its_last_epochs_did_not_improve(
    accuracies: list[float], patience: int | None, stalled: bool
) -> None:
    history = [EpochRecord(i, 0.1, 0.9, 0.1, accuracy) for i, accuracy in enumerate(accuracies, start=1)]

    assert has_stalled(history, patience) is stalled
