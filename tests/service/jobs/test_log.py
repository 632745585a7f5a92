"""A job's log: one line for each event, which people can read."""

from __future__ import annotations

from typing import Any, Literal

from lensmount_service.jobs.log import log_lines
from lensmount_service.jobs.records import Event


def line(kind: Literal["state", "epoch", "log"], **data: Any) -> str:
    return log_lines([Event(1, kind, 1.5, data)])


def test_each_event_is_a_line_that_begins_with_its_time() -> None:
    events = [Event(1, "state", 0, {"state": "queued"}), Event(2, "log", 60, {"message": "hello"})]
    assert log_lines(events) == "1970-01-01T00:00:00.000Z queued\n1970-01-01T00:01:00.000Z info: hello\n"


def test_an_epoch_shows_the_figures_that_it_has() -> None:
    assert line("epoch", epoch=3, loss=0.25, seconds=1.5) == "1970-01-01T00:00:01.500Z epoch 3: loss 0.2500 (1.5 s)\n"
    measured = line("epoch", epoch=3, loss=0.25, validation_loss=None, validation_balanced_accuracy=1)
    assert measured.endswith(" epoch 3: loss 0.2500, validation balanced accuracy 1.0000 (0.0 s)\n")


def test_a_state_shows_its_attempt_and_its_error() -> None:
    assert line("state", state="running", attempt=2).endswith(" running, attempt 2\n")
    error = {"code": "training_failed", "message": "the loss is nan"}
    assert line("state", state="failed", attempt=1, error=error).endswith(
        " failed, attempt 1: the loss is nan (training_failed)\n"
    )


def test_no_events_are_an_empty_log() -> None:
    assert log_lines([]) == ""
