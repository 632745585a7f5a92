"""Counts of a rollout: sums that can be added, stored and read again, and stay small."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lensmount_service.rollout_spec import Canary
from lensmount_service.rollouts.tally import (
    BOUNDS_S,
    MOST_KEYS,
    MOST_NAMES,
    MOST_PAIRS,
    OTHER,
    Compared,
    Counts,
    FirstRequest,
    Stage,
    Tally,
)

TENTH = Stage(10.0, "request")
BY_CLIENT = Stage(10.0, "client")


def some_counts(seed: int = 0) -> Counts:
    generator = np.random.default_rng(seed)
    counts = Counts(without_key=seed, labels_dropped=1)
    for side in ("stable", "canary"):
        tally = counts.tally(TENTH, side)
        for seconds in generator.lognormal(-3, 1, 50):
            tally.image(str(generator.choice(["a", "b"])), "accept", 0.5)
            tally.image("a", "uncertain", 0.5)
            tally.request(2, float(seconds), None)
        tally.request(0, 0.0, "forward_failed")
    counts.shadow.request(1, 0.01, None)
    counts.compared.images, counts.compared.agreed, counts.compared.change = 3, 2, 0.25
    counts.compared.pair(("a", "b"))
    counts.compared.failed["output_not_finite"] += 1
    counts.keys[f"k{seed}"] = FirstRequest(BY_CLIENT, "canary", {"accept": 1.0})
    return counts


def test_counts_are_the_same_after_they_were_stored() -> None:
    counts = some_counts()
    assert Counts.of_json(json.loads(json.dumps(counts.to_json()))) == counts
    assert Counts.of_json(Counts().to_json()) == Counts()


@pytest.mark.parametrize("stored", [{}, {"stages": 1}, {**Counts().to_json(), "shadow": {}}])
def test_what_was_not_stored_here_is_refused(stored: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Counts.of_json(stored)


def test_the_total_of_two_servers_is_what_one_would_have_counted() -> None:
    one, two = some_counts(1), some_counts(2)
    total = Counts.total([one, two])
    assert total.side("canary").requests == 102
    assert total.side("canary").errors == {"forward_failed": 2}
    assert total.side("stable").labels == one.side("stable").labels + two.side("stable").labels
    assert total.part(TENTH, "stable", "uncertain") == 50
    assert (total.without_key, total.labels_dropped, set(total.keys)) == (3, 2, {"k1", "k2"})
    assert (total.compared.images, total.compared.change, total.compared.pairs) == (6, 0.5, {("a", "b"): 2})
    assert one == some_counts(1)  # adding changes nothing else


def test_whoever_counts_a_lasting_key_first_has_it() -> None:
    first, second = Counts(), Counts()
    first.keys["k"] = FirstRequest(BY_CLIENT, "canary", {"uncertain": 1.0})
    second.keys["k"] = FirstRequest(BY_CLIENT, "canary", {"accept": 1.0})
    second.keys["other"] = FirstRequest(BY_CLIENT, "stable", {"uncertain": 0.5})
    total = Counts.total([first, second])
    assert total.part(BY_CLIENT, "canary", "uncertain") == 1
    assert total.part(BY_CLIENT, "canary", "accept") == 0
    assert total.part(BY_CLIENT, "stable", "uncertain") == 0.5
    assert total.part(TENTH, "stable", "uncertain") == 0


def test_quantiles_are_those_of_numpy_up_to_the_width_of_a_bucket() -> None:
    seconds = np.random.default_rng(3).lognormal(-3, 1, 5000)
    tally = Tally()
    for each in seconds:
        tally.request(1, float(each), None)
    for part in (0.5, 0.9, 0.99):
        found, exact = tally.quantile_s(part), np.quantile(seconds, part)
        assert found is not None
        assert exact <= found * 1.001
        assert found <= 2**0.25 * exact * 1.001
    bound = 30
    assert tally.slower_than(bound) == (seconds > BOUNDS_S[bound]).sum()


def test_durations_out_of_range_are_counted_too() -> None:
    tally = Tally()
    assert tally.quantile_s(0.5) is None
    tally.request(1, 0.0, None)
    tally.request(1, 1e9, None)
    assert tally.quantile_s(0.5) == BOUNDS_S[0]
    assert tally.quantile_s(0.99) == 2 * BOUNDS_S[-1]


def test_only_what_may_be_the_versions_fault_is_a_failure() -> None:
    tally = Tally()
    for code in ("queue_full", "invalid_image", "draining", "output_not_finite", "forward_failed"):
        tally.request(0, 0.0, code)
    assert (tally.requests, tally.failed) == (5, 2)


def test_names_pairs_and_keys_are_bounded_and_nothing_is_lost_from_the_sums() -> None:
    tally, compared = Tally(), Compared()
    for number in range(1000):
        tally.image(f"label {number}", None, 1.0)
        compared.pair((f"label {number}", "x"))
    assert (len(tally.labels), tally.labels.total()) == (MOST_NAMES + 1, 1000)
    assert tally.labels[OTHER] == 1000 - MOST_NAMES
    assert (len(compared.pairs), compared.pairs.total()) == (MOST_PAIRS + 1, 1000)
    many = Counts(keys={str(number): FirstRequest(BY_CLIENT, "stable") for number in range(2 * MOST_KEYS)})
    assert len(Counts.total([many]).keys) == MOST_KEYS


def test_a_stage_is_a_percentage_and_a_kind_of_key() -> None:
    assert Stage.of(Canary(2, 10, "client")) == BY_CLIENT
    assert not BY_CLIENT.every_request_by_itself
    assert TENTH.share == pytest.approx(0.1)
    assert Stage.of(None).share == 0
