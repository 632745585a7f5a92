"""What a person sees of a running job; a terminal is played by a console that records."""

from __future__ import annotations

import io
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from lensmount_client import JobEnd, JobEpoch, JobError, JobEvent, JobInfo, JobLog, JobProgress, JobState
from lensmount_client._api.read_jobs import job_of
from lensmount_client._http.json_fields import JsonFields
from lensmount_client._show.job_board import NO_WORKER_SEEN, JobBoard, watching
from lensmount_client._types.jobs import AFTER_TRAINING, TRAINING

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RUNNING = JobState("running", 1, AT)
HALF_WAY = JobProgress(2, 4, 1, 2, 0.512, 0.75, 83.0, "training")


@pytest.fixture
def info() -> JobInfo:
    document: dict[str, Any] = {
        "id": "ab" + "0" * 30,
        "state": "queued",
        "dataset": {"name": "pets", "version": 1, "digest": "sha256:0"},
        "adapter": "cats",
        "hyper_parameters": {},
        "priority": 0,
        "attempt": 0,
        "max_attempts": 3,
        "created_at": "2026-01-02T03:04:05Z",
        "cancel_requested": False,
        "history": [],
    }
    return job_of(JsonFields(document, "", None))


def epoch(number: int, accuracy: float) -> JobEpoch:
    return JobEpoch(number, 0.5, 0.8, 2 / number, accuracy, 1.5)


def drawn(board: JobBoard, width: int = 100, **options: Any) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, **options)
    with console.capture() as capture:
        console.print(board.drawn(console))
    return re.sub(r"\x1b\[[0-9;]*m", "", capture.get())


def test_a_running_job_shows_its_progress_and_curves(info: JobInfo) -> None:
    board = JobBoard(info)
    for event in (RUNNING, epoch(1, 0.5), epoch(2, 0.7), epoch(3, 0.9), HALF_WAY):
        board.take(event)
    text = drawn(board)
    for word in ("cats", "training", "38%", "epoch 2/4", "step 1/2", "0:01:23 left", "loss 0.512", "accuracy 75.0%"):
        assert word in text
    assert re.search(r"validation accuracy +▁[▄▅]█ +50.0% -> 90.0%", text)
    assert re.search(r"validation loss +█▃▁ +2.000 -> 0.667", text)
    assert all(len(line) <= 100 for line in text.splitlines())


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_narrow_terminal_is_not_overrun(width: int, info: JobInfo) -> None:
    board = JobBoard(info)
    events: list[JobEvent] = [RUNNING, *(epoch(number, number / 100) for number in range(1, 90)), HALF_WAY]
    for event in events:
        board.take(event)
    assert all(len(line) <= width for line in drawn(board, width).splitlines())


def test_an_epoch_that_a_resumed_attempt_repeats_is_drawn_once(info: JobInfo) -> None:
    board = JobBoard(info)
    for event in (RUNNING, epoch(1, 0.5), epoch(2, 0.6), JobState("running", 2, AT), epoch(2, 0.9), HALF_WAY):
        board.take(event)
    text = drawn(board)
    assert re.search(r"validation accuracy +▁█ +50.0% -> 90.0%", text)
    assert "attempt 2 of 3" in text


def test_a_job_that_no_worker_takes_says_what_may_be_missing(info: JobInfo) -> None:
    now = [0.0]
    board = JobBoard(info, clock=lambda: now[0])
    assert "worker" not in drawn(board)
    now[0] = 10.0
    assert "To start one: `lensmount worker`" in drawn(board)
    board.take(RUNNING)
    assert "starts one" not in drawn(board)


def test_a_job_without_any_worker_says_so_at_once_and_how_to_start_one(
    info: JobInfo, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = replace(info, workers=0)
    board = JobBoard(alone, clock=lambda: 0.0)
    assert "`lensmount worker`" in drawn(board, 200)
    with watching(True, alone):
        pass
    assert capsys.readouterr().err.splitlines() == [NO_WORKER_SEEN]
    board.take(RUNNING)
    assert "lensmount worker" not in drawn(board, 200)


def test_a_job_that_waits_for_a_busy_worker_does_not_ask_for_another(
    info: JobInfo, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    busy = replace(info, workers=2)
    board = JobBoard(busy, clock=lambda: now[0])
    now[0] = 10.0
    assert "Waiting for a free worker." in drawn(board)
    assert "lensmount worker" not in drawn(board)
    with watching(True, busy):
        pass
    assert capsys.readouterr().err == ""


def test_a_phase_without_epochs_has_its_own_share(info: JobInfo) -> None:
    board = JobBoard(info)
    board.take(RUNNING)
    board.take(JobProgress(None, None, 3, 4, None, None, None, "caching"))
    assert all(word in drawn(board) for word in ("caching", "75%", "step 3/4"))
    board.take(JobProgress(None, None, None, None, None, None, None, "load\x1b[2Jing"))
    assert "load\N{REPLACEMENT CHARACTER}[2Jing" in drawn(board)


def test_figures_that_are_not_valid_yet_or_any_more_are_hidden(info: JobInfo) -> None:
    board = JobBoard(info)
    board.take(RUNNING)
    board.take(JobProgress(2, 4, 0, 9, 0.0, 0.0, 17.0, "caching"))
    text = drawn(board)
    assert all(word in text for word in ("caching", "25%", "epoch 2/4  step 0/9", "0:00:17 left"))
    assert "accuracy" not in text
    for phase in AFTER_TRAINING:
        board.take(JobProgress(4, 4, 9, 9, 0.5, 0.5, None, phase))
        text = drawn(board)
        assert phase in text
        assert not any(word in text for word in ("epoch", "step", "%", "loss", "accuracy"))


def test_each_phase_of_the_training_shows_its_progress(info: JobInfo) -> None:
    board = JobBoard(info)
    board.take(RUNNING)
    for phase in TRAINING:
        board.take(JobProgress(2, 4, 1, 2, 0.5, 0.5, 83.0, phase))
        assert all(word in drawn(board) for word in (phase, "38%", "epoch 2/4  step 1/2", "0:01:23 left"))


def test_a_phase_of_a_newer_server_is_shown_as_plain_text(info: JobInfo) -> None:
    board = JobBoard(info)
    board.take(RUNNING)
    board.take(JobProgress(4, 4, 9, 9, 0.5, 0.5, None, "signing [the] file"))
    assert drawn(board).splitlines()[0].split("  ")[:2] == ["cats", "signing [the] file"]
    assert not any(word in drawn(board) for word in ("━", "epoch", "%", "accuracy"))
    assert board.line(JobProgress(4, 4, 9, 9, 0.5, 0.5, None, "signing")) is None


STORY: list[JobEvent] = [
    JobState("queued", 0, AT),
    RUNNING,
    JobLog("info", "caching", AT),
    JobLog("warning", "few \x1b[2Jimages", AT),
    HALF_WAY,
    epoch(2, 0.95),
    JobState("running", 2, AT),
    JobState("failed", 2, AT, JobError("worker_lost", "killed")),
    JobEnd("failed"),
]


def test_without_a_terminal_each_epoch_is_a_line(info: JobInfo, capsys: pytest.CaptureFixture[str]) -> None:
    with watching(True, info) as report:
        for event in STORY:
            report(event)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"job {info.id} queued",
        f"job {info.id} running",
        "warning: few \N{REPLACEMENT CHARACTER}[2Jimages",
        "epoch 2/4  loss 0.500  accuracy 80.0%  validation  loss 1.000  accuracy 95.0%  0:01:23 left",
        f"job {info.id} running, attempt 2 of 3",
        f"job {info.id} failed, attempt 2 of 3: killed",
    ]


def test_in_a_terminal_the_board_is_live(
    info: JobInfo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with watching(True, info) as report:
        for event in STORY:
            report(event)
    err = capsys.readouterr().err
    assert "\x1b[?25l" in err  # the cursor is hidden while it lives
    assert "\x1b[?25h" in err
    assert "█" in err or "▅" in err
    assert "warning: few \N{REPLACEMENT CHARACTER}[2Jimages" in err


def test_no_report_and_a_callable(info: JobInfo, capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[JobEvent] = []
    for progress in (False, heard.append):
        with watching(progress, info) as report:
            report(RUNNING)
    assert heard == [RUNNING]
    assert capsys.readouterr() == ("", "")


def test_without_rich_the_wait_is_silent(
    info: JobInfo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with watching(True, info) as report:
        report(RUNNING)
    assert capsys.readouterr() == ("", "")
