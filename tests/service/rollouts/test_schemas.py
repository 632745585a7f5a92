from __future__ import annotations

from lensmount_service.rollouts.schemas import RolloutReport


def test_a_report_has_the_members_that_the_docs_promise() -> None:
    assert list(RolloutReport.model_fields) == [
        *("name", "alias", "rollout", "sides", "share", "without_key"),
        *("compared", "labelled", "findings", "events"),
    ]
