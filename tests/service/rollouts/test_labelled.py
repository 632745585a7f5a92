"""Whether a candidate that answers worse is found by labels, and an equal one is not, however people choose labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss

from lensmount_adapters.metrics.calibration import calibration
from lensmount_service.rollouts.labelled import BRIER_MARGIN, compared
from lensmount_service.rollouts.rows import Graded, Pair
from lensmount_service.rollouts.rules import LEVELS
from lensmount_service.rollouts.sequential import p_value

Labels = Callable[[bool], float]  # from whether the shown answer is right to the probability of a label


def graded(score: float) -> Graded:
    """The answer of a version that gives the right one of two labels this score."""
    return Graded(score >= 0.5, score, max(score, 1 - score), (1 - score) ** 2)


def pair(number: int, stable: float, candidate: float, side: str = "stable", share: float = 0.1) -> Pair:
    return Pair(f"sha256:{number:064x}", side, share, 2, graded(stable), graded(candidate))  # type: ignore[arg-type]  # a literal


def versions(generator: np.random.Generator, noise: float, count: int) -> tuple[list[float], list[float]]:
    """Scores of the right label by two versions, of which each has errors of its own and of a common cause.

    A version that learned from a part `noise` of wrong labels gives at most the score 1 - noise, and approaches it more
    slowly. With 0.1, its Brier score is worse by 0.025, with a standard deviation of 0.093: as in benchmarks/rollouts.
    """
    common = generator.normal(2.6, 2.0, count)
    stable = 1 / (1 + np.exp(-common - generator.normal(0, 0.6, count)))
    slower = 0.6 if noise else 1.0
    candidate = 1 / (1 + np.exp(-slower * (common + generator.normal(0, 0.6, count))))
    return stable.tolist(), (noise + (1 - 2 * noise) * candidate).tolist()


def labelled(
    generator: np.random.Generator,
    count: int,
    *,
    noise: float = 0.0,
    share: float = 0.1,
    labels: Labels = lambda _: 1.0,
) -> list[Pair]:
    """Pairs of images that were answered by the canary with probability `share`, and then got a label or not."""
    stable, candidate = versions(generator, noise, 20 * count)
    pairs: list[Pair] = []
    for number, scores in enumerate(zip(stable, candidate, strict=True)):
        side = "canary" if generator.random() < share else "stable"
        if generator.random() < labels(scores[side == "canary"] >= 0.5):
            pairs.append(pair(number, *scores, side, share))
        if len(pairs) == count:
            break
    return pairs


def alarm(pairs: list[Pair], every: int = 100) -> int | None:
    """After how many images one of the tests rejects, looked at again and again; None if never."""
    for count in range(every, len(pairs) + 1, every):
        found = compared(pairs[:count])
        assert found is not None
        if p_value(found.of_accuracy) <= LEVELS["accuracy"] or p_value(found.of_brier) <= LEVELS["brier"]:
            return count
    return None


def test_without_labels_nothing_is_compared() -> None:
    assert compared([]) is None


def test_accuracy_calibration_and_brier_score_are_those_of_the_adapter_library_and_of_scikit_learn() -> None:
    generator = np.random.default_rng(1)
    pairs = labelled(generator, 300)
    found = compared(pairs)
    assert found is not None
    for quality, answers in (
        (found.stable, [p.stable for p in pairs]),
        (found.candidate, [p.candidate for p in pairs]),
    ):
        score = np.array([each.score for each in answers])
        assert quality.accuracy == pytest.approx((score >= 0.5).mean())
        assert quality.brier == pytest.approx(brier_score_loss(np.ones(300), score, pos_label=1))
        both = torch.tensor(np.stack([score, 1 - score], axis=1))
        assert quality.ece == pytest.approx(calibration(torch.zeros(300, dtype=torch.long), both).error, abs=1e-9)
    only = [(p.stable.right and not p.candidate.right, p.candidate.right and not p.stable.right) for p in pairs]
    assert (found.only_stable_right, found.only_candidate_right) == tuple(np.sum(only, axis=0))


def test_with_more_than_two_labels_the_brier_score_is_the_whole_sum() -> None:
    answer = Graded(True, 0.5, 0.5, ((0.5 - 1) ** 2 + 0.3**2 + 0.2**2) / 2)
    found = compared([Pair("x", "stable", 0.0, 3, answer, answer)])
    assert found is not None
    assert found.stable.brier == pytest.approx((0.5 - 1) ** 2 + 0.3**2 + 0.2**2)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_an_equal_candidate_is_not_called_worse(share: float) -> None:
    generator = np.random.default_rng(2)
    assert [alarm(labelled(generator, 500, share=share)) for _ in range(20)] == [None] * 20


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(lambda right: 0.05 if right else 1.0, id="mostly wrong answers"),
        pytest.param(lambda right: 1.0 if right else 0.5, id="wrong answers half as often"),
    ],
)
def test_an_equal_candidate_is_not_called_worse_because_people_label_some_answers_more_often(
    share: float, labels: Labels
) -> None:
    generator = np.random.default_rng(3)
    assert [alarm(labelled(generator, 500, share=share, labels=labels)) for _ in range(10)] == [None] * 10


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_candidate_that_learned_from_ten_per_cent_of_wrong_labels_is_found_within_500_images(share: float) -> None:
    generator = np.random.default_rng(4)
    found = [alarm(labelled(generator, 500, noise=0.1, share=share), every=50) for _ in range(10)]
    assert found.count(None) <= 1, found


def test_a_candidate_that_is_right_less_often_is_found_however_sure_it_is() -> None:
    """Both are always sure. Of 100 images the stable version has 5 wrong, the candidate 15."""
    generator = np.random.default_rng(5)
    scores = [
        (0.99 if generator.random() < 0.95 else 0.01, 0.99 if generator.random() < 0.85 else 0.01) for _ in range(600)
    ]
    assert alarm([pair(number, *each, share=0.5) for number, each in enumerate(scores)], every=50) is not None


def test_a_difference_within_the_margin_is_no_finding() -> None:
    close = [pair(number, 0.95, 1 - (0.05**2 + BRIER_MARGIN) ** 0.5, share=0.5) for number in range(2000)]
    found = compared(close)
    assert found is not None
    assert found.candidate.brier - found.stable.brier == pytest.approx(BRIER_MARGIN)
    assert p_value(found.of_brier) == pytest.approx(1)
