"""The scheduler between threads: some send and cancel, one waits for batches."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from lensmount_adapters import Adapter
from lensmount_service.engine.scheduler import QueuedImage, Scheduler
from lensmount_service.errors import DeadlineExceeded, QueueFull, Unavailable


def item(adapter: str, **more: Any) -> QueuedImage[str]:
    return QueuedImage(cast(Adapter, SimpleNamespace(digest=adapter)), torch.zeros(3, 4, 4), **more)


def names(batch: Sequence[QueuedImage[str]] | None) -> str:
    assert batch is not None
    return "".join(image.adapter.digest for image in batch)


def test_a_window_ends_by_itself() -> None:
    scheduler: Scheduler[str] = Scheduler(batch_window_ms=5)
    scheduler.submit([item("a")])

    assert names(scheduler.next_batch()) == "a"


def test_a_deadline_within_a_window_is_kept() -> None:
    scheduler: Scheduler[str] = Scheduler(batch_window_ms=60_000)
    late = item("a")
    late.deadline = time.perf_counter() + 0.01
    scheduler.submit([late])
    threading.Thread(target=lambda: (late.future.exception(10), scheduler.close())).start()

    assert scheduler.next_batch() is None
    assert isinstance(late.future.exception(0), DeadlineExceeded)


def test_a_thread_that_waits_for_a_batch_wakes_for_an_image_an_interruption_and_the_end() -> None:
    scheduler: Scheduler[str] = Scheduler()
    received, taken = [], threading.Semaphore(0)

    def take() -> None:
        while (batch := scheduler.next_batch()) is not None:
            received.append(names(batch))
            taken.release()

    thread = threading.Thread(target=take)
    thread.start()
    scheduler.submit([item("a")])
    assert taken.acquire(timeout=10)
    scheduler.interrupt()
    assert taken.acquire(timeout=10)
    scheduler.submit([item("b")])
    scheduler.close()
    thread.join(10)

    assert received == ["a", "", "b"]
    assert scheduler.closed
    attempts: list[Callable[[], object]] = [lambda: scheduler.submit([item("a")]), scheduler.interrupt]
    for refused in attempts:
        with pytest.raises(Unavailable, match="shutting down"):
            refused()


def test_every_image_is_answered_once_or_cancelled_while_many_threads_send_and_cancel() -> None:
    scheduler: Scheduler[str] = Scheduler(8, 64, mix=True)
    sent: list[list[Future[str]]] = [[] for _ in range(6)]
    refused: Counter[int] = Counter()

    def send(number: int) -> None:
        draw = random.Random(number)
        for _ in range(800):
            deadline = time.perf_counter() + draw.choice((0.0, 0.001, 60.0))
            items = [item(draw.choice("abcd"), deadline=deadline) for _ in range(draw.randrange(1, 4))]
            try:
                scheduler.submit(items)
            except QueueFull:
                refused[number] += 1
                continue
            sent[number] += [image.future for image in items]
            if draw.random() < 0.3:
                draw.choice(sent[number]).cancel()

    def compute() -> None:
        while (batch := scheduler.next_batch()) is not None:
            assert 0 < len(batch) <= 8
            for image in batch:
                image.future.set_result(image.adapter.digest)  # raises if it already has a result

    threads = [threading.Thread(target=send, args=(number,)) for number in range(6)]
    computing = threading.Thread(target=compute)
    computing.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    scheduler.close()
    computing.join(60)

    ends: Counter[str] = Counter()
    for future in (future for futures in sent for future in futures):
        try:
            ends[future.result(0)] += 1
        except (DeadlineExceeded, CancelledError) as error:
            ends[type(error).__name__] += 1
    assert {*"abcd", "DeadlineExceeded", "CancelledError"} == ends.keys()
    assert scheduler.waiting == 0
