"""A rollout in words: what is said, and what is left out when it is not known."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from lensmount_client import (
    Canary,
    RightAnswers,
    Rollout,
    RolloutComparison,
    RolloutEvent,
    RolloutLabels,
    RolloutReport,
    RolloutSide,
    Shadow,
)
from lensmount_client._show.rollout import described_rollout, rollout_line

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ROLLOUT = Rollout("r1", 7, Canary(8, 10, "header:X-Patient"), Shadow(9, 0.2), {"p99": None}, AT, None)
ALL_RIGHT = RightAnswers(1.0, None, None)
REPORT = RolloutReport("malaria", "prod", ROLLOUT, {}, None, 0, None, None, (), ())
LABELLED = RolloutLabels(9, ALL_RIGHT, ALL_RIGHT, 0, 0, None, None, None)


def shown(report: RolloutReport, width: int = 80) -> str:
    page = io.StringIO()
    Console(file=page, width=width, force_terminal=True, color_system=None).print(described_rollout(report))
    return page.getvalue()


def test_a_canary_by_a_header_says_how_many_requests_had_none() -> None:
    text = " ".join(shown(replace(REPORT, without_key=12)).split())
    assert "gets 10 % of the values of X-Patient; 12 requests had no such header, and the stable version" in text


def test_a_server_that_has_not_loaded_the_version_yet_is_named() -> None:
    assert "not ready" in shown(REPORT)
    assert "not ready" not in shown(replace(REPORT, rollout=replace(ROLLOUT, ready=True)))


def test_an_alias_whose_rollout_ended_says_how() -> None:
    ended = replace(REPORT, rollout=None, events=(RolloutEvent(AT, None, "rolled_back", {"rule": "p99"}),))
    assert "ended: rolled back 2026-01-02 03:04:05" in shown(ended)
    assert rollout_line(ended) == "malaria:prod  no rollout"
    assert "none" in shown(replace(REPORT, rollout=None))


def test_what_is_not_known_is_left_out() -> None:
    side = RolloutSide(8, 0, 0, {}, 0, {}, None, None, {})
    text = shown(replace(REPORT, sides={"canary": side}, labelled=LABELLED))
    assert "None" not in text
    assert "worse" not in text
    nobody = " ".join(shown(replace(REPORT, labelled=replace(LABELLED, mcnemar_p=1.0))).split())
    assert "no image that only one of them has right" in nobody
    compared = RolloutComparison(0, None, (), (), None, 0, 3)
    text = shown(replace(REPORT, compared=compared))
    assert "same label" not in text
    assert "without an answer  3" in text
    ragged = replace(compared, labels=("a", "b"), counts=((1, 2), (3,)))  # of a server that cannot count
    assert "stable / shadow" not in shown(replace(REPORT, compared=ragged))


@pytest.mark.parametrize(
    ("p", "words"),
    [
        (0.2, "the difference may be chance (p = 0.2)"),
        (0.00001, "the candidate is right more often (p < 0.0001, for one look)"),
    ],
)
def test_a_p_value_is_told_in_words(p: float, words: str) -> None:
    labelled = replace(LABELLED, only_stable_right=1, only_candidate_right=20, mcnemar_p=p)
    assert words in " ".join(shown(replace(REPORT, labelled=labelled), 120).split())


@pytest.mark.parametrize("width", [20, 40, 80])
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    many: dict[str, Any] = {f"code_{number}": 1 for number in range(5)}
    side = RolloutSide(8, 10, 20, many, 2, {"accept": 1, "unfamiliar": 3}, 1.0, 2.0, {})
    labels = tuple(f"label-{number}" for number in range(6))
    compared = RolloutComparison(9, 1.0, labels, tuple((1,) * 6 for _ in labels), 0.1, 0, 0)
    text = shown(replace(REPORT, sides={"stable": side, "canary": side}, compared=compared, labelled=LABELLED), width)
    assert max(map(len, text.splitlines())) <= width
