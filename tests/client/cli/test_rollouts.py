"""`lensmount rollouts ...`: what it sends, and what a person reads at 80 columns."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.client.tiny_rollouts import COMPARED, LABELLED, side

CANARY = ("--canary", "8", "--percent", "10")


@pytest.fixture(autouse=True)
def _own_server(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENSMOUNT_URL", server.url)


def test_a_rollout_is_started_with_all_its_options(server: Any, lensmount: Any) -> None:
    options = ["--key", "header:X-Patient", "--shadow", "9", "--sample", "0.2"]
    rules = ["--rule", "errors=0.1", "--rule", "worse_on_labels=off", "--rule", "p99=off"]
    code, out, err = lensmount("rollouts", "start", "malaria:prod", *CANARY, *options, *rules)
    assert (code, out) == (0, "malaria:prod  stable 1, canary 8 gets 10 % by header:X-Patient, shadow 9 sees 20 %\n")
    assert "lensmount rollouts status malaria:prod --watch" in err
    assert server.rollouts.sent[0][0] == {
        "stable": 1,
        "canary": {"version": 8, "percent": 10.0, "key": "header:X-Patient"},
        "shadow": {"version": 9, "sample": 0.2},
        "rules": {"errors": 0.1, "worse_on_labels": False, "p99": None},
    }


def test_the_list_of_adapters_names_the_version_that_is_tried(server: Any, lensmount: Any) -> None:
    lensmount("rollouts", "start", "malaria:prod", *CANARY)
    assert "prod=1 (trying 8)" in lensmount("adapters", "list")[1]
    (listed, _) = json.loads(lensmount("adapters", "list", "--json")[1])["adapters"]
    assert listed["rollouts"]["prod"]["started_at"] == "2026-01-02T03:04:05+00:00"


def test_an_alias_that_is_not_there_is_to_be_set_first_and_then_it_works(server: Any, lensmount: Any) -> None:
    code, _, err = lensmount("rollouts", "start", "malaria:beta", *CANARY)
    assert (code, server.rollouts.sent) == (1, [])
    assert "Fix: point it at the version that serves, by `lensmount adapters alias NAME ALIAS`, then start again" in err
    assert lensmount("adapters", "alias", "malaria", "beta")[0] == 0
    assert lensmount("rollouts", "start", "malaria:beta", *CANARY)[0] == 0


def test_promote_and_rollback_say_where_the_alias_points_now(server: Any, lensmount: Any) -> None:
    lensmount("rollouts", "start", "malaria:prod", *CANARY)
    assert lensmount("rollouts", "rollback", "malaria:prod")[:2] == (0, "malaria:prod now points to malaria@1\n")
    lensmount("rollouts", "start", "malaria:prod", *CANARY)
    assert lensmount("rollouts", "promote", "malaria:prod")[:2] == (0, "malaria:prod now points to malaria@8\n")
    document = json.loads(lensmount("rollouts", "promote", "malaria:prod", "--json")[1])
    assert document["events"][0]["what"] == "promoted"
    assert lensmount("rollouts", "promote", "malaria:beta")[0] == 1


PAGE = """\
alias    malaria:prod
stable   malaria@1
canary   malaria@8 gets 10 % of the callers; so far 9.8 % of the requests
started  2026-01-02 03:04:05 by reader1
rules    errors 0.02, uncertain 2, worse_on_labels on

Requests
version   requests  images  errors  uncertain      p50       p99
1 stable       900   1,800       0      50.0%  12.5 ms     40 ms
8 canary        98     196       2      50.0%  12.5 ms  2,935 ms
errors of canary  2 swap_failed

Stable and shadow on the same images
images                 200
same label             98.5%
mean change of scores  0.0125
left out under load    4
stable / shadow  cat  dog
cat              120    1
dog                2   77

Images that people labelled: 120
version    accuracy  calibration error  Brier score  right alone
stable     95.0%     0.021              0.080        14
candidate  85.0%     0.052              0.160        2
McNemar, exact  the stable version is right more often (p = 0.0042, for one
                look)
worse labels?   yes, clearly (p = 0.0097 at any time)
worse scores?   not shown (p = 0.4 at any time)

Findings
errors  found 2 of 98, expected at most 0.02

Events
2026-01-02 03:04:05  started by reader1: stable 1
"""


def test_the_status_reads_well_at_80_columns(server: Any, lensmount: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lensmount("rollouts", "start", "malaria:prod", *CANARY, "--key", "client")
    server.rollouts.changes = {
        "sides": {"stable": side(1, 900), "canary": side(8, 98, errors={"swap_failed": 2}, p99_ms=2935.2)},
        **{"share": 0.0982, "compared": COMPARED, "labelled": LABELLED},
        "findings": [{"rule": "errors", "found": "2 of 98", "expected": "at most 0.02"}],
    }
    code, out, _ = lensmount("rollouts", "status", "malaria:prod")
    assert code == 0
    assert [line.rstrip() for line in out.splitlines()] == PAGE.splitlines()
    document = json.loads(lensmount("rollouts", "status", "malaria:prod", "--json")[1])
    assert document["share"] == 0.0982


def test_the_status_without_an_alias_has_a_line_for_each_rollout(server: Any, lensmount: Any) -> None:
    assert "No rollouts now. Start one: lensmount rollouts start" in lensmount("rollouts", "status")[1]
    lensmount("rollouts", "start", "malaria:prod", "--shadow", "9")
    for what in ((), ("malaria",)):
        assert lensmount("rollouts", "status", *what)[:2] == (0, "malaria:prod  stable 1, shadow 9 sees 100 %\n")
    assert len(json.loads(lensmount("rollouts", "status", "--json")[1])["rollouts"]) == 1
    lensmount("rollouts", "rollback", "malaria:prod")
    assert "No rollouts now" in lensmount("rollouts", "status")[1]


def test_watching_ends_with_the_rollout_and_shows_why(server: Any, lensmount: Any) -> None:
    lensmount("rollouts", "start", "malaria:prod", *CANARY)
    server.rollouts.looks = 3
    code, out, _ = lensmount("rollouts", "status", "malaria:prod", "--watch", "--every", "0.1")
    assert code == 0
    assert out.count("alias") == 2  # the second of the three is the first again
    assert "ended: rolled back 2026-01-02 03:04:05" in out
    assert "rolled back by the server: rule errors, found 0.5, expected at most 0.02" in out


@pytest.mark.parametrize(
    ("arguments", "message", "fixed"),
    [
        (["start", "malaria", *CANARY], "expected NAME:ALIAS, because", ["start", "malaria:prod", *CANARY]),
        (["start", "malaria:prod"], "neither a canary nor a shadow", ["start", "malaria:prod", "--shadow", "9"]),
        (["start", "malaria:prod", "--canary", "8"], "percent: found none", ["start", "malaria:prod", *CANARY]),
        (
            ["start", "malaria:prod", *CANARY, "--rule", "p99"],
            "--rule: found 'p99', expected NAME=VALUE",
            ["start", "malaria:prod", *CANARY, "--rule", "p99=3"],
        ),
        (
            ["start", "malaria:prod", *CANARY, "--rule", "p99=often"],
            "--rule: found 'p99=often'",
            ["start", "malaria:prod", *CANARY, "--rule", "p99=3"],
        ),
        (["status", "malaria@1"], "found a version, expected NAME or NAME:ALIAS", ["status", "malaria"]),
        (["status", "--watch"], "--watch without NAME:ALIAS or with --json", ["status"]),
    ],
)
def test_wrong_usage_says_what_to_do_and_that_works(
    arguments: list[str], message: str, fixed: list[str], lensmount: Any
) -> None:
    code, _, err = lensmount("rollouts", *arguments)
    assert (code, message in err) == (2, True), err
    assert lensmount("rollouts", *fixed)[0] == 0
