from __future__ import annotations

import threading
import time

import pytest

from lensmount_service.errors import LeaseLost, Unavailable
from lensmount_service.worker.checkpoint_sender import CheckpointSender
from lensmount_service.worker.heartbeat import Heartbeat, JobCancelled, WorkerStopping
from lensmount_service.worker.server_client import ServerAway


class Table:
    """A job table that answers each beat with the next line of a script, the last one for ever."""

    def __init__(self, *script):
        self.script = list(script)
        self.beats = []

    def beat(self, lease, progress=None):
        self.beats.append(progress)
        line = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(line, Exception):
            raise line
        return line


class Lease:
    id = "1"


@pytest.fixture
def beating():
    """`with beating(False, True) as (heart, table): ...`"""
    return lambda *script, stopping=lambda: False: Pair(script, stopping)


class Pair:
    def __init__(self, script, stopping):
        self.table = Table(*script)
        self.heart = Heartbeat(self.table, Lease(), 0.02, stopping)

    def __enter__(self):
        self.heart.__enter__()
        return self.heart, self.table

    def __exit__(self, *error):
        self.heart.__exit__(*error)


def until(holds):
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def raises(kind, heart):
    def found():
        try:
            heart.check()
        except kind:
            return True
        return False

    return found


def test_it_beats_on_its_own_and_writes_each_progress_once(beating):
    with beating(False) as (heart, table):
        heart.progress = {"epoch": 1}
        until(lambda: len(table.beats) >= 4)
        heart.check()
    assert table.beats.count({"epoch": 1}) == 1


def test_a_cancelled_job_a_lost_lease_and_a_stopping_worker_are_told_apart(beating):
    with beating(False, True) as (heart, _):
        until(raises(JobCancelled, heart))
    with beating(False, LeaseLost("gone")) as (heart, table):
        until(raises(LeaseLost, heart))
        beats = len(table.beats)
        time.sleep(0.1)
        assert len(table.beats) == beats
    with beating(False, stopping=lambda: True) as (heart, _), pytest.raises(WorkerStopping):
        heart.check()


def test_a_database_that_is_away_stops_no_job(beating):
    with beating(Unavailable("locked"), Unavailable("locked"), False) as (heart, table):
        until(lambda: len(table.beats) >= 4)
        heart.check()


def test_a_progress_that_could_not_be_written_is_written_with_the_next_beat(beating):
    with beating(Unavailable("locked"), False) as (heart, table):
        heart.progress = {"epoch": 1}
        until(lambda: table.beats.count({"epoch": 1}) >= 2)


# Checkpoints


def test_only_the_latest_checkpoint_is_sent_where_epochs_are_faster_than_the_way(tmp_path):
    sending, go = threading.Event(), threading.Event()
    sent = []

    def send(path):
        sending.set()
        go.wait(10)
        sent.append(path)

    with CheckpointSender(tmp_path, send) as sender:
        sender.offer()
        sending.wait(10)
        for _ in range(5):
            sender.offer()
        go.set()
        until(lambda: len(sent) == 2)
        time.sleep(0.05)
    assert sent == [tmp_path] * 2


def test_a_checkpoint_that_cannot_be_sent_stops_nothing(tmp_path):
    calls = []

    def send(path):
        calls.append(path)
        raise ServerAway("away")

    with CheckpointSender(tmp_path, send) as sender:
        sender.offer()
        until(lambda: len(calls) == 1)
        sender.offer()
        until(lambda: len(calls) == 2)


def test_a_stopping_worker_waits_for_the_checkpoint_that_is_on_its_way(tmp_path):
    sent = []

    def send(path):
        time.sleep(0.2)
        sent.append(path)

    def stop():
        with CheckpointSender(tmp_path, send) as sender:
            sender.offer()
            raise WorkerStopping

    with pytest.raises(WorkerStopping):
        stop()
    assert sent == [tmp_path]


def test_a_stopping_worker_waits_for_a_checkpoint_that_is_offered_as_the_one_before_arrives(tmp_path):
    """The offer comes between the sender's look whether there is another one and its word that there is none."""
    sent, looked = [], []

    class Offered(threading.Event):
        def is_set(self):
            found = super().is_set()
            if not looked:
                looked.append(found)
                threading.Thread(target=offer).start()
                offered.wait(0.2)  # where the sender holds a lock, the offer comes after
            return found

    offered = threading.Event()

    def offer():
        sender.offer()
        offered.set()

    def send(path):
        if sent:
            time.sleep(0.2)
        sent.append(path)

    sender = CheckpointSender(tmp_path, send)
    sender._offered = Offered()

    def stop():
        with sender:
            sender.offer()
            assert offered.wait(10)
            raise WorkerStopping

    with pytest.raises(WorkerStopping):
        stop()
    assert sent == [tmp_path] * 2
