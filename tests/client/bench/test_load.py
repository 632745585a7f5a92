"""The schedule of a load test, and the load on a scripted server."""

from __future__ import annotations

import itertools
import math
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from lensmount_client import InvalidInput
from lensmount_client._bench.connection import Body
from lensmount_client._bench.load import Load, Mix, Schedule, Target

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nContent-Length: 2\r\n\r\n{}"
TARGETS = [Target("malaria", "/predict?adapter=malaria"), Target("smoking", "/predict?adapter=smoking")]
IMAGE = [Body.raw(b"image")]


def arrivals(load: Load, clock: Callable[[], float] = lambda: 0.0) -> list[Any]:
    return list(iter(Schedule(load, 0.0, clock).next, None))


@pytest.mark.parametrize("mix", Mix)
def test_a_mix_requests_targets_in_its_proportions(mix: Mix) -> None:
    targets = [Target(str(number), "/") for number in range(5)]
    drawn = arrivals(Load("http://x", targets, IMAGE, rate=1000, duration_s=20, warmup_s=0, mix=mix))
    expected = {
        Mix.zipf: [60 / 137, 30 / 137, 20 / 137, 15 / 137, 12 / 137],
        Mix.uniform: [1 / 5] * 5,
        Mix.one: [1.0, 0, 0, 0, 0],
    }[mix]
    found = Counter(arrival.target for arrival in drawn)
    for number, share in enumerate(expected):
        sigma = math.sqrt(share * (1 - share) / len(drawn))
        assert abs(found[number] / len(drawn) - share) <= 4 * sigma


def test_arrivals_of_an_open_loop_are_poisson_and_independent_of_the_clock() -> None:
    numpy = pytest.importorskip("numpy")
    load = Load("http://x", TARGETS, IMAGE, rate=500, duration_s=38, warmup_s=2, seed=3)
    dues = [arrival.due for arrival in arrivals(load)]
    gaps = numpy.diff([0.0, *dues])
    assert dues[-1] < 40
    assert len(dues) == pytest.approx(20_000, abs=4 * math.sqrt(20_000))
    assert gaps.mean() == pytest.approx(1 / 500, rel=0.03)
    assert gaps.std() == pytest.approx(1 / 500, rel=0.05)  # of an exponential distribution: its mean
    assert (gaps > 1 / 500).mean() == pytest.approx(math.exp(-1), abs=0.02)


@pytest.mark.parametrize("cv", [0.5, 4.0])
def test_arrivals_come_as_evenly_or_in_such_bursts_as_the_coefficient_of_variation_says(cv: float) -> None:
    numpy = pytest.importorskip("numpy")
    load = Load("http://x", TARGETS, IMAGE, rate=500, cv=cv, duration_s=100, warmup_s=0)
    gaps = numpy.diff([arrival.due for arrival in arrivals(load)])
    assert gaps.mean() == pytest.approx(1 / 500, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05)


def test_the_same_seed_draws_the_same_sequence_and_images_take_turns() -> None:
    bodies = [Body.raw(b"%d" % number) for number in range(3)]
    first, again, other = (
        arrivals(Load("http://x", TARGETS, bodies, rate=50, duration_s=2, warmup_s=0, seed=seed)) for seed in (7, 7, 8)
    )
    assert first == again != other
    assert [arrival.body for arrival in first[:7]] == [0, 1, 2, 0, 1, 2, 0]


def test_a_closed_loop_starts_now_and_ends_with_the_time() -> None:
    ticks = itertools.count()
    drawn = arrivals(Load("http://x", TARGETS, IMAGE, duration_s=5, warmup_s=2), clock=lambda: float(next(ticks)))
    assert [arrival.due for arrival in drawn] == [0, 1, 2, 3, 4, 5, 6]


def test_latencies_of_an_open_loop_count_from_when_a_request_should_have_started(scripted: Any) -> None:
    """The server needs 20 ms for each, half as fast as they arrive, over one connection: the queue must show."""
    service_s = 0.02

    def slow(number: int) -> bytes:
        time.sleep(service_s)
        return OK

    scripted.answer = slow
    load = Load(scripted.url, TARGETS[:1], IMAGE, connections=1, rate=2 / service_s, duration_s=0.6, warmup_s=0, seed=1)
    samples = load.run().samples
    draw, due, free, least = random.Random(1), 0.0, 0.0, []
    for _ in samples:  # Lindley's recursion: a request starts when it is due and the one before has ended
        due += draw.expovariate(2 / service_s)
        draw.random()  # what is asked
        free = max(free, due) + service_s
        least.append(free - due)
    assert len(samples) > 30
    assert all(sample.end - sample.start >= bound for sample, bound in zip(samples, least, strict=True))
    assert least[-1] > 8 * service_s


def test_a_closed_loop_keeps_all_connections_busy_and_opens_no_more(scripted: Any) -> None:
    together = threading.Barrier(4)

    def wait_for_the_others(number: int) -> bytes:
        if number < 4:
            together.wait(timeout=10)
        return OK

    scripted.answer = wait_for_the_others
    measured = Load(scripted.url, TARGETS, IMAGE, connections=4, duration_s=0.2, warmup_s=0).run()
    assert len(scripted.connections) == 4
    assert len(scripted.requests) == len(measured.samples) >= 4
    assert not any(sample.error for sample in measured.samples)


def test_an_impossible_load_is_refused() -> None:
    right: dict[str, Any] = {"base_url": "http://x", "targets": TARGETS, "bodies": IMAGE}
    wrong: dict[str, Any]
    for wrong in (
        {"connections": 0},
        {"rate": 0.0},
        {"cv": 0.0},
        {"duration_s": 0.0},
        {"warmup_s": -1.0},
        {"targets": []},
    ):
        with pytest.raises(InvalidInput, match="expected"):
            Load(**(right | wrong)).run()


def test_an_unreachable_server_is_an_error_of_each_request() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    samples = Load(url, TARGETS, IMAGE, connections=1, rate=100, duration_s=0.1, warmup_s=0).run().samples
    assert {sample.error.code for sample in samples if sample.error} == {"server_unreachable"}
    assert all(sample.error for sample in samples)
