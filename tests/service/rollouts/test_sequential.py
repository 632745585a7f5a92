"""The levels and the power of tests that are looked at after every observation, by simulation and by other formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import integrate
from scipy.stats import binom

from lensmount_service.rollouts.sequential import BETS, CAPITAL, chance_of, log_evidence, log_wealth, mcnemar, p_value

LEVEL = 0.01


@pytest.mark.parametrize(
    ("hits", "misses", "chance"), [(0, 1, 0.5), (3, 0, 0.1), (7, 2, 0.5), (30, 20, 0.2), (2.5, 40.25, 0.1), (5, 5, 0.9)]
)
def test_the_evidence_is_the_mean_likelihood_ratio_by_numerical_integration(
    hits: float, misses: float, chance: float
) -> None:
    def ratio(p: float) -> float:
        return float((p / chance) ** hits * ((1 - p) / (1 - chance)) ** misses)

    mean = integrate.quad(ratio, chance, 1, epsabs=0, epsrel=1e-10)[0] / (1 - chance)
    assert log_evidence(hits, misses, chance) == pytest.approx(math.log(mean), abs=1e-8)


@pytest.mark.parametrize(("hits", "misses", "chance"), [(0, 0, 0.5), (5, 2, 0.0), (5, 2, 1.0)])
def test_without_observations_or_without_a_choice_there_is_no_evidence(
    hits: float, misses: float, chance: float
) -> None:
    assert log_evidence(hits, misses, chance) == 0
    assert p_value(0) == 1


def test_extreme_counts_give_finite_numbers() -> None:
    assert p_value(log_evidence(0, 1e6, 0.5)) == 1
    assert 0 < p_value(log_evidence(1e6, 0, 0.1)) < 1e-100
    assert p_value(math.inf) < 1e-100


def test_the_chance_of_an_event_follows_from_how_often_each_side_answers_and_how_often_it_has_events() -> None:
    """Of 1,000 requests the canary has 100 with 2 events in 10, the other side 900 with 1 in 10: 20 of 110."""
    assert chance_of(0.1, 2) == pytest.approx(20 / 110)
    assert chance_of(0.1) == pytest.approx(0.1)
    assert (chance_of(0.0), chance_of(1.0)) == (0, 1)


def ever_below(level: float, hits: NDArray[np.int64], chance: float) -> float:
    """The part of the runs [runs, N] of hits and misses in which the p-value is ever at most `level`."""
    totals = hits.cumsum(axis=1)
    length = hits.shape[1]
    least = np.full(length + 1, length + 2)  # the fewest hits after n observations that reject
    for n in range(1, length + 1):
        while least[n] - 1 >= 0 and p_value(log_evidence(least[n] - 1, n - least[n] + 1, chance)) <= level:
            least[n] -= 1
        least[n] = min(least[n], n + 1)
        if n < length:
            least[n + 1] = least[n] + 1
    return float((totals >= least[1:]).any(axis=1).mean())


@pytest.mark.parametrize("chance", [0.5, 0.1])
def test_looked_at_after_each_of_1000_observations_a_true_null_is_rejected_less_often_than_the_level(
    chance: float,
) -> None:
    runs = np.random.default_rng(1).random((2000, 1000)) < chance
    assert ever_below(LEVEL, runs.astype(np.int64), chance) <= LEVEL


def test_a_test_of_fixed_size_looked_at_as_often_rejects_a_true_null_much_more_often() -> None:
    """Why these tests are needed at all: McNemar's p-value at every tenth image falls below 1 % in many more runs."""
    looks = np.arange(20, 401, 10)
    heads = (np.random.default_rng(2).random((2000, 400)) < 0.5).cumsum(axis=1)[:, looks - 1]
    p = np.minimum(1, 2 * binom.cdf(np.minimum(heads, looks - heads), looks, 0.5))
    assert p[0, 5] == pytest.approx(mcnemar(int(heads[0, 5]), int(looks[5] - heads[0, 5])))
    assert (p <= LEVEL).any(axis=1).mean() > 3 * LEVEL


def test_a_rate_that_changes_with_time_is_no_evidence_as_long_as_both_sides_have_it() -> None:
    """A burst of difficult images: the rate goes from 1 % to 60 % and back. The canary answers a tenth."""
    generator = np.random.default_rng(3)
    rate = np.where((np.arange(4000) > 1500) & (np.arange(4000) < 2500), 0.6, 0.01)
    rejected = 0
    for _ in range(200):
        events = generator.random(4000) < rate
        canary = generator.random(4000) < 0.1
        mine, all_of_them = (events & canary).cumsum(), events.cumsum()
        looks = [(mine[n], all_of_them[n] - mine[n]) for n in range(99, 4000, 100)]
        rejected += any(p_value(log_evidence(*look, chance_of(0.1))) <= LEVEL for look in looks)
    assert rejected / 200 <= LEVEL


def test_parts_of_requests_count_as_parts_and_the_level_stays() -> None:
    """Requests of ten similar images, of which a part is uncertain: each is one observation, not ten."""
    generator = np.random.default_rng(4)
    rejected = 0
    for _ in range(200):
        part = generator.beta(0.2, 0.8, 1000)  # mostly none or all of a request's images
        canary = generator.random(1000) < 0.1
        mine, others = (part * canary).cumsum(), (part * ~canary).cumsum()
        rejected += any(p_value(log_evidence(mine[n], others[n], chance_of(0.1))) <= LEVEL for n in range(49, 1000, 50))
    assert rejected / 200 <= LEVEL


def test_three_times_as_many_events_are_found_within_a_few_hundred_requests() -> None:
    generator = np.random.default_rng(5)
    needed = []
    for _ in range(100):
        canary = generator.random(3000) < 0.1
        events = generator.random(3000) < np.where(canary, 0.3, 0.1)
        mine, others = (events & canary).cumsum(), (events & ~canary).cumsum()
        looks = range(50, 3000, 50)
        needed.append(
            next((n for n in looks if p_value(log_evidence(mine[n], others[n], chance_of(0.1))) <= 0.001), 3000)
        )
    assert np.median(needed) <= 1000
    assert max(needed) < 3000


def test_the_wealth_is_the_sum_of_what_each_bet_makes() -> None:
    gains = np.array([0.5, -0.2, 0.1])
    made = sum(of * (1 + bet * 0.5) * (1 - bet * 0.2) * (1 + bet * 0.1) for bet, of in zip(BETS, CAPITAL, strict=True))
    assert log_wealth(gains, 1.0) == pytest.approx(math.log(made))
    assert CAPITAL.sum() == pytest.approx(1)
    assert log_wealth(np.array([]), 1.0) == 0


def test_the_order_of_the_observations_does_not_matter() -> None:
    gains = np.random.default_rng(6).normal(0.02, 0.2, 200).clip(-1, 1)
    assert log_wealth(gains, 1.0) == pytest.approx(log_wealth(gains[::-1], 1.0))


def paths(generator: np.random.Generator, mean: float, runs: int, length: int) -> NDArray[np.float64]:
    """Differences of Brier scores as they look: most of them small, a few large, with this mean."""
    small = generator.normal(0, 0.02, (runs, length))
    large = generator.choice([-0.8, 0.8], (runs, length)) * (generator.random((runs, length)) < 0.05)
    found: NDArray[np.float64] = np.clip(small + large, -1, 1) + mean
    return found


def first_below(level: float, gains: NDArray[np.float64]) -> NDArray[np.int64]:
    """After how many observations [runs] the p-value is at most `level`, one more than there are if never."""
    grown = np.log1p(BETS[:, None, None] * gains / 1.1).cumsum(axis=2)  # [bets, runs, N]
    wealth = np.logaddexp.reduce(np.log(CAPITAL)[:, None, None] + grown, axis=0)
    below = wealth >= -math.log(level)
    found: NDArray[np.int64] = np.where(below.any(axis=1), below.argmax(axis=1) + 1, gains.shape[1] + 1)
    return found


def test_equal_scores_are_called_worse_less_often_than_the_level() -> None:
    gains = paths(np.random.default_rng(7), 0.0, 500, 500)
    assert np.mean(first_below(LEVEL, gains) <= 500) <= LEVEL


def test_a_small_but_steady_difference_is_found_within_a_few_hundred_images() -> None:
    found = first_below(0.0075, paths(np.random.default_rng(8), 0.04, 200, 600))
    assert np.median(found) <= 500


@pytest.mark.parametrize(("first", "second", "expected"), [(0, 0, 1.0), (0, 6, 2 / 64), (1, 5, 14 / 64), (3, 3, 1.0)])
def test_mcnemars_exact_p_counts_the_tosses_of_a_coin(first: int, second: int, expected: float) -> None:
    assert mcnemar(first, second) == pytest.approx(expected)
    assert mcnemar(second, first) == pytest.approx(expected)
