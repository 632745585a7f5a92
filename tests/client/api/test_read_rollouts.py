"""The JSON of a report becomes its types, or an error that names the field."""

from __future__ import annotations

from typing import Any

import pytest
from tests.client.tiny_rollouts import AT, COMPARED, LABELLED, RULES, side

from lensmount_client import RolloutFinding, UnexpectedResponse
from lensmount_client._api.read_rollouts import report_of
from lensmount_client._http.json_fields import JsonFields

REPORT: dict[str, Any] = {
    **{"name": "malaria", "alias": "prod", "share": 0.1, "without_key": 3, "compared": COMPARED, "labelled": LABELLED},
    "rollout": {
        **{"id": "r1", "stable": 7, "canary": {"version": 8, "percent": 10, "key": "client"}, "shadow": None},
        **{"rules": RULES, "started_at": AT, "started_by": None},
    },
    **{"sides": {"stable": side(7, 9), "canary": side(8, 1), "shadow": None}, "findings": [], "events": []},
}


def test_what_is_null_or_missing_is_none_and_what_only_a_newer_server_says_is_left_out() -> None:
    report = report_of(JsonFields(REPORT | {"weather": "fine"}, "", None))
    assert report.rollout is not None
    assert (report.rollout.shadow, report.rollout.started_by, report.rollout.ready) == (None, None, False)
    assert report.sides.keys() == {"stable", "canary"}
    nothing = {"rollout": None, "share": None, "compared": None, "labelled": None}
    ended = report_of(JsonFields(REPORT | nothing, "", None))
    assert (ended.rollout, ended.share, ended.compared, ended.labelled) == (None, None, None, None)


def test_a_finding_is_words_even_if_the_server_sends_numbers() -> None:
    report = report_of(
        JsonFields(REPORT | {"findings": [{"rule": "errors", "found": 0.5, "expected": None}]}, "", None)
    )
    assert report.findings == (RolloutFinding("errors", "0.5", ""),)


@pytest.mark.parametrize(
    "changes",
    [
        {"sides": {"canary": {"version": "8"}}},
        {"findings": [{}]},
        {"events": [{"at": "soon", "actor": None, "what": "ended"}]},
        {"compared": COMPARED | {"confusion": {"labels": ["cat"], "counts": [["many"]]}}},
        {"labelled": LABELLED | {"stable": None}},
        {"share": "all"},
        {"rollout": {"id": 7}},
    ],
)
def test_a_report_that_cannot_be_read_says_which_field(changes: dict[str, Any]) -> None:
    with pytest.raises(UnexpectedResponse, match=next(iter(changes))):
        report_of(JsonFields(REPORT | changes, "", None))
