"""What a server saw of a rollout is counted once, from any thread, until it is taken to be stored."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from lensmount_adapters.trust.judge import Judgement
from lensmount_service.rollout_spec import Canary, Rollout, Shadow
from lensmount_service.rollouts.evidence import Evidence, Scored
from lensmount_service.rollouts.tally import MOST_KEYS, Stage

ROLLOUT = Rollout("1" * 32, 1, Canary(2, 10), Shadow(3))
BY_CLIENT = replace(ROLLOUT, canary=Canary(2, 10, "client"))
UNSURE = Judgement("uncertain", 0.6, None, None, False, None, None, None)


def test_a_request_is_counted_for_its_side() -> None:
    evidence = Evidence()
    canary, stable = evidence.sample(ROLLOUT, "canary"), evidence.sample(ROLLOUT, "stable")
    canary.image("a", "uncertain", 0.5)
    canary.image("b", "accept", 0.5)
    canary.request(200, 2, 0.02)
    stable.request(503, code="forward_failed")
    counts = evidence.pending(ROLLOUT.id)
    mine, other = counts.side("canary"), counts.side("stable")
    assert (mine.requests, mine.images, mine.decisions) == (1, 2, {"uncertain": 1, "accept": 1})
    assert counts.part(Stage(10.0, "request"), "canary", "uncertain") == 0.5
    assert (other.requests, other.failed, other.images) == (1, 1, 0)


def test_a_version_that_cannot_be_used_and_a_request_without_the_key_are_counted() -> None:
    evidence = Evidence()
    evidence.refused(ROLLOUT, "canary", "adapter_corrupt")
    evidence.unkeyed(ROLLOUT)
    evidence.dropped(ROLLOUT)
    counts = evidence.pending(ROLLOUT.id)
    assert counts.side("canary").errors == {"adapter_corrupt": 1}
    assert (counts.without_key, counts.labels_dropped) == (1, 1)


def test_of_requests_with_a_lasting_key_the_first_one_counts() -> None:
    evidence = Evidence()
    for _ in range(5):
        odd = evidence.sample(BY_CLIENT, "canary", 0.01)
        for _ in range(4):
            odd.image("a", "unfamiliar", 0.25)
        odd.request(200, 4, 0.01)
    evidence.sample(BY_CLIENT, "canary", 0.02).image("a", "accept", 1.0)
    counts = evidence.pending(BY_CLIENT.id)
    stage = Stage(10.0, "client")
    assert counts.part(stage, "canary", "unfamiliar") == 1
    assert counts.part(stage, "canary", "accept") == 1
    assert counts.side("canary").decisions == {"unfamiliar": 20, "accept": 1}


def test_the_first_request_stays_the_first_one_after_the_counts_were_stored() -> None:
    evidence = Evidence()
    evidence.sample(BY_CLIENT, "canary", 0.01).image("a", "unfamiliar", 1.0)
    evidence.taken()
    evidence.sample(BY_CLIENT, "canary", 0.01).image("a", "unfamiliar", 1.0)
    assert evidence.pending(BY_CLIENT.id).keys == {}


def test_a_million_keys_take_no_more_memory_than_a_few_hundred() -> None:
    evidence = Evidence()
    for number in range(2 * MOST_KEYS):
        evidence.sample(BY_CLIENT, "stable", number / 10_000).image("a", "accept", 1.0)
    assert len(evidence.pending(BY_CLIENT.id).keys) == MOST_KEYS


def test_counts_are_taken_once_and_can_be_given_back() -> None:
    evidence = Evidence()
    evidence.sample(ROLLOUT, "stable").request(200, 1, 0.01)
    taken = evidence.taken()
    assert evidence.taken() == {}
    evidence.sample(ROLLOUT, "stable").request(200, 1, 0.01)
    evidence.give_back(taken)
    assert evidence.pending(ROLLOUT.id).side("stable").requests == 2
    evidence.forget({"another"})
    assert evidence.taken() == {}


def test_an_image_of_the_shadow_is_compared_with_that_of_the_stable_version() -> None:
    evidence = Evidence()
    stable = Scored(("a", "b"), [0.75, 0.25])
    evidence.shadowed(ROLLOUT, stable, Scored(("b", "a"), [0.5, 0.5], UNSURE), "", 0.01)  # the first of two equal ones
    evidence.shadowed(ROLLOUT, stable, Scored(("a", "b"), [0.25, 0.75]), "", 0.01)
    evidence.shadowed(ROLLOUT, stable, Scored(("a", "c"), [1.0, 0.0]), "", 0.01)
    counts = evidence.pending(ROLLOUT.id)
    compared = counts.compared
    assert (compared.images, compared.agreed) == (3, 1)
    assert compared.pairs == {("a", "b"): 2, ("a", "a"): 1}
    assert compared.change == pytest.approx(0.25 + 0.5 + (0.25 + 0.25 + 0) / 3)
    assert counts.side("shadow").decisions == {"uncertain": 1}
    assert counts.stages == {}  # a shadow answers nobody


@pytest.mark.parametrize("why", ["forward_failed", "deadline_exceeded"])
def test_a_shadow_that_fails_is_counted_with_the_reason(why: str) -> None:
    evidence = Evidence()
    stable = Scored(("a", "b"), [0.75, 0.25])
    evidence.shadowed(ROLLOUT, stable, None, why, 0.0)
    evidence.shadowed(ROLLOUT, stable, Scored(("a", "b"), [float("nan"), 0.5]), "", 0.0)
    evidence.shadowed(ROLLOUT, stable, None, "shed", 0.0)
    counts = evidence.pending(ROLLOUT.id)
    assert counts.compared.failed == {why: 1, "output_not_finite": 1}
    assert counts.side("shadow").errors == {why: 1, "output_not_finite": 1}
    assert (counts.compared.shed, counts.compared.images) == (1, 0)


def test_nothing_is_lost_while_eight_threads_count_and_one_takes() -> None:
    evidence = Evidence()
    taken = []

    def count() -> None:
        for _ in range(500):
            sample = evidence.sample(ROLLOUT, "stable")
            sample.image("a", "accept", 1.0)
            sample.request(200, 1, 0.01)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        taken.append(evidence.taken())
        time.sleep(0)
    taken.append(evidence.taken())
    total = [counts.side("stable") for each in taken for counts in each.values()]
    assert sum(tally.requests for tally in total) == sum(tally.labels["a"] for tally in total) == 4000
