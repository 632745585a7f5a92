"""Quotas on a clock that the test moves."""

from __future__ import annotations

import math
import random

import pytest

from lensmount_service.access.identity import Identity, Quotas
from lensmount_service.access.quotas import MAX_RATES, Meter
from lensmount_service.errors import BodyTooLarge, QuotaExceeded


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def meter(clock: Clock) -> Meter:
    return Meter(clock)


def limited(key: str = "k", **limits: float) -> Identity:
    return Identity("reader1", key, frozenset({"predict"}), "lab", Quotas(**limits))  # type: ignore[arg-type]  # of a table


def test_a_whole_minute_may_be_used_at_once_and_the_refusal_says_when_more_is_free(meter: Meter, clock: Clock) -> None:
    reader1 = limited(requests_per_minute=6)
    for _ in range(6):
        meter.charge(reader1, "requests_per_minute", 1)

    with pytest.raises(QuotaExceeded, match=r"requests_per_minute.*again in 10 s") as refused:
        meter.charge(reader1, "requests_per_minute", 1)
    assert refused.value.retry_after_s == 10

    clock.now += 9.9
    with pytest.raises(QuotaExceeded):
        meter.charge(reader1, "requests_per_minute", 1)
    clock.now += 0.1
    meter.charge(reader1, "requests_per_minute", 1)  # the advice works


def test_what_can_never_fit_is_not_told_to_come_again(meter: Meter) -> None:
    for rate, code in (("bytes_per_minute", "body_too_large"), ("pixels_per_minute", "batch_too_large")):
        with pytest.raises(BodyTooLarge, match="found a request of 11") as refused:
            meter.charge(limited(**{rate: 10}), rate, 11)  # type: ignore[arg-type]  # of a table
        assert refused.value.code == code
        assert refused.value.retry_after_s is None


def test_a_refund_gives_back_exactly_what_was_charged(meter: Meter) -> None:
    reader1 = limited(pixels_per_minute=100)
    charge = meter.charge(reader1, "pixels_per_minute", 70)
    meter.refund(charge)
    meter.refund(None)

    assert meter.used(reader1) == {"pixels_per_minute": 0.0}
    meter.charge(reader1, "pixels_per_minute", 100)


def test_nobody_pays_for_another_and_no_limit_costs_nothing(meter: Meter) -> None:
    meter.charge(limited("a", requests_per_minute=1), "requests_per_minute", 1)
    meter.charge(limited("b", requests_per_minute=1), "requests_per_minute", 1)
    for _ in range(100):
        assert meter.charge(limited("c"), "requests_per_minute", 1) is None


@pytest.mark.parametrize("seed", range(20))
def test_over_any_history_no_minute_has_more_than_twice_the_quota_and_the_average_is_the_quota(
    meter: Meter, clock: Clock, seed: int
) -> None:
    """Against a list of what was let through: a full bucket and what refills while it is emptied."""
    rng = random.Random(seed)
    limit = rng.randint(5, 200)
    reader1, passed, began = limited(pixels_per_minute=limit), [], clock.now
    waits: list[int | None] = []
    for _ in range(400):
        clock.now += rng.expovariate(1.0)
        cost = rng.randint(1, limit)
        try:
            meter.charge(reader1, "pixels_per_minute", cost)
            passed.append((clock.now, cost))
        except QuotaExceeded as error:
            waits.append(error.retry_after_s)
    assert all(wait is not None and 0 <= wait <= 60 for wait in waits)
    for start, _ in passed:
        assert sum(cost for at, cost in passed if start <= at < start + 60) <= 2 * limit + 1e-6
    assert sum(cost for _, cost in passed) <= limit * (1 + (clock.now - began) / 60) + 1e-6


def test_the_headers_say_the_limit_what_is_left_and_when_it_is_full(meter: Meter, clock: Clock) -> None:
    reader1 = limited(requests_per_minute=60, bytes_per_minute=1000)
    meter.charge(reader1, "requests_per_minute", 15)

    assert meter.headers(reader1) == {
        "RateLimit-Policy": '"requests";q=60;qu="requests";w=60, "bytes";q=1000;qu="content-bytes";w=60',
        "RateLimit": '"requests";r=45;t=15, "bytes";r=1000;t=0',
    }
    clock.now += 15
    assert meter.headers(reader1)["RateLimit"].startswith('"requests";r=60;t=0')
    assert meter.headers(limited(queue_share=0.5)) == {}


def test_the_share_of_the_queue_counts_what_is_in_it(meter: Meter) -> None:
    reader1 = limited(queue_share=0.25)

    with meter.queued(reader1, 3, 16):
        assert meter.used(reader1) == {"queue_share": 3.0}
        with pytest.raises(QuotaExceeded, match="found 3 images"), meter.queued(reader1, 2, 16):
            pass
        with meter.queued(reader1, 1, 16):
            pass
    with pytest.raises(BodyTooLarge, match="expected at most 4"), meter.queued(reader1, 5, 16):
        pass
    with meter.queued(reader1, 4, 16):
        pass
    with meter.queued(limited(), 1000, 16):
        pass
    assert meter.used(reader1) == {"queue_share": 0.0}


def test_a_small_share_still_lets_one_image_through(meter: Meter) -> None:
    with meter.queued(limited(queue_share=0.001), 1, 16):
        pass


def test_tokens_that_came_and_went_hold_no_memory(meter: Meter, clock: Clock) -> None:
    for number in range(3 * MAX_RATES):
        clock.now += 0.1
        meter.charge(limited(str(number), requests_per_minute=math.ceil(60)), "requests_per_minute", 1)

    assert len(vars(meter)["_paid_off_at"]) <= MAX_RATES


def test_a_request_that_fails_gives_its_share_of_the_queue_back(meter: Meter) -> None:
    reader1 = limited(queue_share=0.25)

    with pytest.raises(ZeroDivisionError), meter.queued(reader1, 4, 16):
        raise ZeroDivisionError

    assert meter.used(reader1) == {"queue_share": 0.0}
