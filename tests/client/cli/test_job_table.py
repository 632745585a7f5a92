"""One job in the words of a table."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from tests.client.job_answers import DOCUMENT

from lensmount_client import JobError, JobInfo, JobProgress
from lensmount_client._api.read_jobs import job_of
from lensmount_client._cli.job_table import described_job, outcome, percent
from lensmount_client._http.json_fields import JsonFields


@pytest.fixture
def info() -> JobInfo:
    return job_of(JsonFields(DOCUMENT, "", None))


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        ("training", "training epoch 2/4"),
        ("caching", "caching epoch 2/4"),
        (None, "training epoch 2/4"),
        ("publishing", "publishing"),
        ("signing", "signing"),
    ],
)
def test_a_list_of_jobs_shows_the_phase_and_the_epoch_if_there_is_one(
    phase: str | None, words: str, info: JobInfo
) -> None:
    progress = JobProgress(2, 4, 1, 2, 0.5, 0.5, None, phase)
    assert outcome(replace(info, state="running", progress=progress)) == words


RESULT = {"published": True, "adapter": {"name": "cats", "version": 3, "digest": "sha256:1"}}
COMPARED = {
    **{"passed": True, "forced": False, "reason": "0.95 of 0.94", "margin": 0.01, "balanced_accuracy": 0.95},
    "replaced": {"name": "cats", "version": 2, "digest": "sha256:2", "balanced_accuracy": 0.94},
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": "queued"}, ""),
        ({"state": "failed", "error": {"code": "worker_lost", "message": "killed"}}, "worker_lost"),
        ({"state": "succeeded", "result": RESULT}, "published cats@3"),
        ({"state": "succeeded", "result": RESULT, "alias": "prod"}, "published cats@3 as cats:prod"),
        ({"state": "succeeded", "result": RESULT, "alias": "prod", "canary": 10}, "published cats@3 as cats:prod"),
        (
            {"state": "succeeded", "result": {**RESULT, "gate": COMPARED}, "alias": "prod", "canary": 10},
            "published cats@3 as the canary of cats:prod, 10 %",
        ),
        ({"state": "succeeded", "result": {"published": False, "adapter": None}}, "not published"),
    ],
)
def test_the_outcome_of_a_job_is_a_few_words(changes: dict[str, Any], words: str) -> None:
    assert outcome(job_of(JsonFields({**DOCUMENT, **changes}, "", None))) == words


@pytest.mark.parametrize(
    ("passed", "forced", "verdict"), [(True, False, "passed"), (False, True, "forced"), (False, False, "refused")]
)
def test_the_table_says_what_the_gate_decided(passed: bool, forced: bool, verdict: str) -> None:
    gate = {"passed": passed, "forced": forced, "reason": "0.90 of 0.94", "margin": 0.01, "balanced_accuracy": 0.9}
    metrics = {"test": {"accuracy": 0.9, "balanced_accuracy": 0.875}}
    document = {**DOCUMENT, "state": "succeeded", "result": {**RESULT, "gate": gate, "metrics": metrics}}
    console = Console(file=io.StringIO(), width=100, color_system=None)
    with console.capture() as capture:
        console.print(described_job(job_of(JsonFields(document, "", None))))
    text = capture.get()
    assert f"{verdict}: 0.90 of 0.94" in text
    assert "balanced accuracy 87.5%, accuracy 90.0%" in text


def test_text_of_the_server_cannot_move_the_cursor(info: JobInfo) -> None:
    console = Console(file=io.StringIO(), width=100, color_system=None)
    with console.capture() as capture:
        console.print(described_job(replace(info, adapter="a", error=JobError("x", "\x1b[2Jkilled"))))
    assert "\x1b[2J" not in capture.get()
    assert "[2Jkilled (x)" in capture.get()


def test_a_share_is_a_percentage_with_one_digit() -> None:
    assert [percent(value) for value in (None, 0.0, 0.8766)] == ["", "0.0%", "87.7%"]
