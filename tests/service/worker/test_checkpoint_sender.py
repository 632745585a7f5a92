"""Checkpoints are sent in the background: the latest one counts, and a stopping worker waits for it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lensmount_service.worker.checkpoint_sender import CheckpointSender
from lensmount_service.worker.heartbeat import WorkerStopping
from lensmount_service.worker.server_client import ServerAway

if TYPE_CHECKING:
    from tests.service.conftest import Until


def test_only_the_latest_checkpoint_is_sent_if_epochs_are_faster_than_sending(tmp_path: Path) -> None:
    sending, resume = threading.Event(), threading.Event()
    sent = []

    def send(path: Path) -> None:
        sending.set()
        resume.wait(10)
        sent.append(path)

    def offer_five_while_the_first_is_sent() -> None:
        with CheckpointSender(tmp_path, send) as sender:
            sender.offer()
            assert sending.wait(10)
            for _ in range(5):
                sender.offer()
            resume.set()
            raise WorkerStopping  # waits until nothing is left to send

    with pytest.raises(WorkerStopping):
        offer_five_while_the_first_is_sent()
    assert sent == [tmp_path] * 2


def test_a_checkpoint_that_cannot_be_sent_stops_nothing(tmp_path: Path, until: Until) -> None:
    calls = []

    def send(path: Path) -> None:
        calls.append(path)
        raise ServerAway("away")

    with CheckpointSender(tmp_path, send) as sender:
        sender.offer()
        until(lambda: len(calls) == 1)
        sender.offer()
        until(lambda: len(calls) == 2)


def test_a_stopping_worker_waits_for_the_checkpoint_that_is_being_sent(tmp_path: Path) -> None:
    sent, stopping = [], threading.Event()

    def send(path: Path) -> None:
        assert stopping.wait(10)
        sent.append(path)

    def stop() -> None:
        with CheckpointSender(tmp_path, send) as sender:
            sender.offer()
            stopping.set()
            raise WorkerStopping

    with pytest.raises(WorkerStopping):
        stop()
    assert sent == [tmp_path]


@pytest.mark.parametrize("repetition", range(20))
def test_a_stopping_worker_waits_for_a_checkpoint_that_is_offered_as_the_one_before_arrives(
    tmp_path: Path, repetition: Any
) -> None:
    """The offers race with the end of the first send, where the sender finds out whether there is another offer."""
    sent: list[Path] = []
    first_done, offered, stopping = threading.Event(), threading.Event(), threading.Event()

    def send(path: Path) -> None:
        if sent:
            assert stopping.wait(10)
        sent.append(path)
        first_done.set()

    def offer_again() -> None:
        assert first_done.wait(10)
        sender.offer()
        offered.set()

    sender = CheckpointSender(tmp_path, send)
    other = threading.Thread(target=offer_again)

    def stop() -> None:
        with sender:
            other.start()
            sender.offer()
            assert offered.wait(10)
            stopping.set()
            raise WorkerStopping

    with pytest.raises(WorkerStopping):
        stop()
    other.join()
    assert sent == [tmp_path] * 2


def test_leaving_ends_the_thread_and_drops_what_was_not_sent(tmp_path: Path, until: Until) -> None:
    with CheckpointSender(tmp_path, lambda path: None) as sender:
        pass
    until(lambda: not sender.is_running)
