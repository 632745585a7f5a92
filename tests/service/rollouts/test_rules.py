"""Each rule finds a planted fault, and finds nothing otherwise, however often it is looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lensmount_service.rollout_spec import Canary, Rollout, Rules
from lensmount_service.rollouts.evidence import Evidence
from lensmount_service.rollouts.labelled import Labelled, Quality
from lensmount_service.rollouts.rules import LEVELS, findings
from lensmount_service.rollouts.tally import Counts

ROLLOUT = Rollout("1" * 32, 1, Canary(2, 10))
BY_CLIENT = replace(ROLLOUT, canary=Canary(2, 10, "client"))

Request = Callable[[np.random.Generator, bool], dict[str, Any]]
"""What becomes of one request: arguments of `answer`, by whether the canary answers."""


def answer(evidence: Evidence, rollout: Rollout, canary: bool, **happens: Any) -> None:
    sample = evidence.sample(rollout, "canary" if canary else "stable", happens.get("place"))
    if happens.get("code"):
        sample.request(503, code=happens["code"])
        return
    for decision in happens.get("decisions", ("accept",)):
        sample.image("a", decision, 1 / len(happens.get("decisions", (1,))))
    sample.request(200, 1, happens.get("seconds", 0.02))


def rules_broken(
    request: Request, *, rollout: Rollout = ROLLOUT, requests: int = 3000, seed: int = 1, every: int = 50
) -> dict[str, int]:
    """After how many requests each rule was first found broken."""
    generator, evidence = np.random.default_rng(seed), Evidence()
    assert rollout.canary is not None
    broken: dict[str, int] = {}
    for number in range(1, requests + 1):
        canary = bool(generator.random() < rollout.canary.percent / 100)
        answer(evidence, rollout, canary, **request(generator, canary))
        if number % every == 0:
            for finding in findings(rollout, evidence.pending(rollout.id), None):
                broken.setdefault(finding.rule, number)
    return broken


def usual(generator: np.random.Generator, canary: bool) -> dict[str, Any]:
    """One answer in ten is uncertain, one in fifty unfamiliar, one in two hundred fails; durations vary by a factor."""
    if generator.random() < 0.005:
        return {"code": str(generator.choice(["forward_failed", "output_not_finite"]))}
    decision = str(generator.choice(["accept", "uncertain", "unfamiliar"], p=[0.88, 0.1, 0.02]))
    return {"decisions": (decision,), "seconds": float(generator.lognormal(-4, 0.7))}


FAULTS: dict[str, Request] = {
    "errors": lambda g, canary: {"code": "forward_failed"} if canary and g.random() < 0.1 else usual(g, canary),
    "not_finite": lambda g, canary: {"code": "output_not_finite"} if canary and g.random() < 0.1 else usual(g, canary),
    "uncertain": lambda g, canary: {"decisions": ("uncertain",)} if canary and g.random() < 0.5 else usual(g, canary),
    "unfamiliar": lambda g, canary: {"decisions": ("unfamiliar",)} if canary and g.random() < 0.2 else usual(g, canary),
    "p99": lambda g, canary: {"seconds": float(g.lognormal(-4, 0.7)) * (5 if canary else 1)},
}


@pytest.mark.parametrize("rule", FAULTS)
def test_a_planted_fault_is_found(rule: str) -> None:
    found = rules_broken(FAULTS[rule])
    assert rule in found
    assert set(found) <= {rule, "errors"}  # scores that are not finite are errors too


@pytest.mark.parametrize("rule", FAULTS)
def test_a_rule_that_is_off_finds_nothing(rule: str) -> None:
    nothing: dict[str, Any] = {rule: None}
    off = replace(ROLLOUT, rules=Rules(**nothing))
    assert rule not in rules_broken(FAULTS[rule], rollout=off, requests=1000)


@pytest.mark.parametrize("percent", [1, 10, 50, 99])
def test_nothing_is_found_where_both_sides_are_alike(percent: float) -> None:
    rollout = replace(ROLLOUT, canary=Canary(2, percent))
    assert rules_broken(usual, rollout=rollout, requests=2500, seed=int(percent)) == {}


def test_a_fault_of_the_machine_which_both_sides_have_is_not_the_canarys() -> None:
    """For a while everything fails, is uncertain and slow."""
    count = iter(range(10_000))

    def burst(generator: np.random.Generator, canary: bool) -> dict[str, Any]:
        if not 600 < next(count) < 1200:
            return usual(generator, canary)
        if generator.random() < 0.7:
            return {"code": "out_of_memory"}
        return {"decisions": ("uncertain",), "seconds": 3.0}

    assert rules_broken(burst, requests=2500) == {}


def test_failures_that_are_not_the_versions_fault_do_not_count() -> None:
    assert rules_broken(lambda g, canary: {"code": "queue_full"} if canary else {}, requests=1000) == {}


def test_what_a_rule_allows_is_no_finding() -> None:
    """The canary has 1.5 times as many uncertain answers, where twice as many are allowed, and 1 % of errors of 2 %."""

    def allowed(generator: np.random.Generator, canary: bool) -> dict[str, Any]:
        if canary and generator.random() < 0.01:
            return {"code": "forward_failed"}
        return {"decisions": ("uncertain" if generator.random() < (0.15 if canary else 0.1) else "accept",)}

    rollout = replace(ROLLOUT, rules=Rules(not_finite=None))
    assert rules_broken(allowed, rollout=rollout) == {}


def test_one_client_whose_images_are_all_unfamiliar_is_no_evidence_against_the_canary() -> None:
    """Of 30 clients the one with the place 0.01 belongs to the canary, and sends most requests."""

    def by_client(generator: np.random.Generator, canary: bool) -> dict[str, Any]:
        odd = canary and generator.random() < 0.9
        place = 0.01 if odd else float(generator.integers(2, 32)) / 100
        return {"place": place, "decisions": ("unfamiliar" if odd else "accept",) * 4}

    assert rules_broken(by_client, rollout=BY_CLIENT, requests=1500) == {}
    by_request = rules_broken(by_client, requests=1500)
    assert "unfamiliar" in by_request  # what it would be if each request were independent of the others


def test_many_clients_of_the_canary_whose_images_are_unfamiliar_are_evidence() -> None:
    def by_client(generator: np.random.Generator, canary: bool) -> dict[str, Any]:
        return {"place": float(generator.random()), "decisions": ("unfamiliar" if canary else "accept",)}

    assert "unfamiliar" in rules_broken(by_client, rollout=BY_CLIENT, requests=1000)


def test_before_enough_requests_nothing_is_found() -> None:
    evidence = Evidence()
    patient = replace(ROLLOUT, rules=Rules(after=40))
    for number in range(40):
        assert findings(patient, evidence.pending(ROLLOUT.id), None) == []
        answer(evidence, patient, True, code="forward_failed")
        answer(evidence, patient, False)
        assert number < 39 or findings(patient, evidence.pending(ROLLOUT.id), None)


def test_a_canary_that_answers_everything_is_taken_back_for_its_errors() -> None:
    alone = replace(ROLLOUT, canary=Canary(2, 100))
    found = rules_broken(lambda g, canary: {"code": "forward_failed"} if g.random() < 0.2 else {}, rollout=alone)
    assert set(found) == {"errors"}


def test_a_raised_percentage_begins_another_stage_and_what_was_seen_counts_on() -> None:
    evidence, raised = Evidence(), replace(ROLLOUT, canary=Canary(2, 50))
    generator = np.random.default_rng(7)
    for rollout, share in ((ROLLOUT, 0.1), (raised, 0.5)):
        for _ in range(1500):
            canary = bool(generator.random() < share)
            answer(evidence, rollout, canary, **usual(generator, canary))
        assert findings(rollout, evidence.pending(ROLLOUT.id), None) == []


def of_labels(images: int = 500, accuracy: float = 0.0, brier: float = 0.0) -> Labelled:
    quality = Quality(0.9, 0.02, 0.05)
    return Labelled(images, quality, quality, 20, 5, 0.01, accuracy, brier)


def test_evidence_of_labels_is_compared_with_its_level() -> None:
    for what in ("accuracy", "brier"):
        strong, weak = -np.log(LEVELS[what]) + 0.01, -np.log(LEVELS[what]) - 0.01
        assert [f.rule for f in findings(ROLLOUT, Counts(), of_labels(**{what: strong}))] == ["worse_on_labels"]
        assert findings(ROLLOUT, Counts(), of_labels(**{what: weak})) == []
        assert findings(ROLLOUT, Counts(), of_labels(images=49, **{what: strong})) == []
        off = replace(ROLLOUT, rules=Rules(worse_on_labels=False))
        assert findings(off, Counts(), of_labels(**{what: strong})) == []


def test_all_rules_together_end_a_good_rollout_in_at_most_one_of_a_hundred() -> None:
    assert sum(LEVELS.values()) == pytest.approx(0.01)


def test_a_finding_says_what_was_found_and_what_was_expected() -> None:
    evidence = Evidence()
    for number in range(100):
        answer(evidence, ROLLOUT, True, **({"code": "forward_failed"} if number % 2 else {}))
        answer(evidence, ROLLOUT, False)
    (errors,) = findings(ROLLOUT, evidence.pending(ROLLOUT.id), None)
    assert errors.found.startswith("50 of 100 (50.0 %) of the canary's requests, 0 of 100 (0.0 %) of the others")
    assert errors.expected == "at most 2 % that fail, or no more than of the others"
    assert 0 < errors.p < LEVELS["errors"]
