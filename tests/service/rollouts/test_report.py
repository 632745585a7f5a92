from __future__ import annotations

from lensmount_service.rollout_spec import Canary, Rollout, Shadow
from lensmount_service.rollouts.report import report, state_of
from lensmount_service.rollouts.shown import Shown
from lensmount_service.rollouts.tally import Counts
from lensmount_service.store.aliases import RolloutEvent

ROLLOUT = Rollout("1" * 32, 7, Canary(8, 10, "client"), Shadow(9), started_at=1_000_000_000.0, started_by="reader1")


def test_a_report_says_what_runs_and_what_became_of_the_rollouts_before() -> None:
    events = [RolloutEvent("1" * 32, 1_000_000_000.0, None, "rolled_back", {"version": 7})]
    found = report("cells", "prod", Shown(ROLLOUT, Counts(), None, []), events, ready=True).model_dump(mode="json")
    assert found["rollout"]["canary"] == {"version": 8, "percent": 10, "key": "client"}
    assert found["rollout"]["started_at"] == "2001-09-09T01:46:40.000Z"
    assert (found["rollout"]["ready"], found["rollout"]["started_by"]) == (True, "reader1")
    assert "salt" not in found["rollout"]
    assert found["sides"]["canary"]["requests"] == 0
    (event,) = found["events"]
    at = "2001-09-09T01:46:40.000Z"
    assert event == {"at": at, "actor": None, "what": "rolled_back", "evidence": {"version": 7}}


def test_a_rollout_that_has_ended_is_null() -> None:
    assert report("cells", "prod", None, [], ready=False).rollout is None


def test_a_state_says_whether_the_candidate_is_ready() -> None:
    assert not state_of(ROLLOUT, ready=False).ready
