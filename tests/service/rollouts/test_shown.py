"""What a rollout has shown, as its report tells it: figures that another computation gives as well."""

from __future__ import annotations

import json

import pytest

from lensmount_service.rollout_spec import Canary, Rollout, Shadow
from lensmount_service.rollouts.evidence import Evidence, Scored
from lensmount_service.rollouts.rows import Graded, Pair, Rows
from lensmount_service.rollouts.shown import MOST_LABELS, Showing, Shown
from lensmount_service.rollouts.tally import Counts
from lensmount_service.store.database import Database

ROLLOUT = Rollout("1" * 32, 1, Canary(2, 10), Shadow(3))
RIGHT, WRONG = Graded(True, 0.9, 0.9, 0.01), Graded(False, 0.2, 0.8, 0.64)


def showing(database: Database, evidence: Evidence) -> Showing:
    database.create()
    return Showing(Rows(database), evidence)


def test_a_rollout_without_requests_has_zeros() -> None:
    told = Shown(ROLLOUT, Counts(), None, []).to_json()
    nothing = {"requests": 0, "images": 0, "errors": {}, "not_finite": 0, "decisions": {}, "labels": {}}
    assert told["sides"]["canary"] == {"version": 2, **nothing, "p50_ms": None, "p99_ms": None}
    assert told["sides"].keys() == {"stable", "canary", "shadow"}
    assert (told["share"], told["labelled"], told["findings"], told["without_key"]) == (None, None, [], 0)
    assert told["compared"]["agreement"] is None


def test_sides_share_and_comparison_are_told() -> None:
    evidence = Evidence()
    for number in range(4):
        sample = evidence.sample(ROLLOUT, "canary" if number == 0 else "stable")
        sample.image("a", "accept", 1.0)
        sample.request(200, 1, 0.01 * 2**number)
    stable = Scored(("a", "b"), [0.75, 0.25])
    for scores in ([0.5, 0.5], [0.25, 0.75], [0.75, 0.25]):
        evidence.shadowed(ROLLOUT, stable, Scored(("a", "b"), scores), "", 0.01)
    evidence.shadowed(ROLLOUT, stable, None, "shed", 0.0)
    evidence.shadowed(ROLLOUT, stable, None, "forward_failed", 0.0)
    told = Shown(ROLLOUT, evidence.pending(ROLLOUT.id), None, []).to_json()
    assert told["share"] == 0.25
    assert told["sides"]["stable"]["requests"] == 3
    assert told["sides"]["stable"]["p50_ms"] == pytest.approx(40, rel=0.2)
    compared = told["compared"]
    assert compared["agreement"] == pytest.approx(2 / 3)
    assert compared["confusion"] == {"labels": ["a", "b"], "counts": [[2, 1], [0, 0]]}
    assert compared["mean_change_of_scores"] == pytest.approx((0.25 + 0.5 + 0) / 3)
    assert (compared["shed"], compared["failed"]) == (1, 1)


def test_a_confusion_matrix_of_many_labels_has_its_most_frequent_ones_and_one_for_the_others() -> None:
    evidence = Evidence()
    for number in range(3 * MOST_LABELS):
        label = f"label {number:03}"
        evidence.shadowed(ROLLOUT, Scored((label,), [1.0]), Scored((label,), [1.0]), "", 0.0)
    confusion = Shown(ROLLOUT, evidence.pending(ROLLOUT.id), None, []).to_json()["compared"]["confusion"]
    assert len(confusion["labels"]) == MOST_LABELS + 1
    assert sum(map(sum, confusion["counts"])) == 3 * MOST_LABELS


def test_stored_counts_and_those_that_are_not_stored_yet_are_one_sum(database: Database) -> None:
    evidence = Evidence()
    shown = showing(database, evidence)
    rows = Rows(database)
    for _ in range(2):
        evidence.sample(ROLLOUT, "canary").request(200, 1, 0.01)
        rows.add(evidence.taken())
        evidence.sample(ROLLOUT, "canary").request(200, 1, 0.01)
    assert shown.of(ROLLOUT).counts.side("canary").requests == 4


def test_labels_are_told_as_json_and_computed_again_when_there_is_another_one(database: Database) -> None:
    shown = showing(database, Evidence())
    rows = Rows(database)
    for number in range(3):
        rows.add_pair(ROLLOUT.id, Pair(f"sha256:{number}", "stable", 0.1, 2, RIGHT, WRONG if number else RIGHT))
        labelled = shown.of(ROLLOUT).to_json()["labelled"]
        assert labelled["images"] == number + 1
    assert labelled["stable"]["accuracy"] == 1
    assert labelled["candidate"]["accuracy"] == pytest.approx(1 / 3)
    assert (labelled["only_stable_right"], labelled["only_candidate_right"]) == (2, 0)
    assert labelled["mcnemar_p"] == pytest.approx(0.5)
    assert 0 < labelled["sequential_p_accuracy"] <= 1
    told = shown.of(ROLLOUT)
    assert json.loads(json.dumps(told.evidence(), allow_nan=False)) == told.evidence()
    assert "labels" not in told.evidence()["sides"]["stable"]
