from __future__ import annotations

from email.utils import formatdate

import pytest

from lensmount_client import Busy, InvalidInput, Problem, RetryPolicy, ServerUnreachable, TimedOut
from lensmount_client._http.retry import parse_retry_after

NOW_S = 1_700_000_000.0


def busy(retry_after_s: float | None) -> Busy:
    return Busy(Problem(429, "queue_full", "Too Many Requests", retry_after_s=retry_after_s))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0.0), ("7", 7.0), (" 7 ", 7.0), ("0.5", 0.5), (formatdate(NOW_S + 90, usegmt=True), 90.0)],
)
def test_retry_after_is_seconds_or_an_http_date(value: str, seconds: float) -> None:
    assert parse_retry_after(value, NOW_S) == seconds


@pytest.mark.parametrize(
    "value",
    [
        *(None, "", "-1", "soon", "nan", "inf", "1e9", "9" * 5000, "٣", "1;2", "0x10", "\x00"),
        *("Wed, 99 Foo 2026 99:99:99 GMT", "Fri, 31 Dec 99999 00:00:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ],
)
def test_hostile_retry_after_is_ignored(value: str | None) -> None:
    assert parse_retry_after(value, NOW_S) is None


def test_backoff_doubles_and_half_of_it_is_random() -> None:
    low, high = RetryPolicy(retries=5, random=lambda: 0.0), RetryPolicy(retries=5, random=lambda: 1.0)
    error = ServerUnreachable("gone")
    assert [low.wait_s(n, error) for n in (1, 2, 3)] == [0.125, 0.25, 0.5]
    assert [high.wait_s(n, error) for n in (1, 2, 3)] == [0.25, 0.5, 1.0]


def test_backoff_is_capped_however_often_it_failed() -> None:
    assert RetryPolicy(retries=10**6, random=lambda: 1.0).wait_s(10**6, ServerUnreachable("gone")) == 20.0


def test_retry_after_sets_the_wait_and_randomness_never_shortens_it() -> None:
    assert RetryPolicy(random=lambda: 0.0).wait_s(1, busy(4)) == 4.0
    assert RetryPolicy(random=lambda: 1.0).wait_s(1, busy(4)) == 5.0


def test_retry_after_is_capped() -> None:
    assert RetryPolicy(random=lambda: 0.0).wait_s(1, busy(86_400)) == 20.0


def test_retry_after_zero_means_backoff_not_a_busy_loop() -> None:
    assert RetryPolicy(random=lambda: 0.0).wait_s(1, busy(0)) == 0.125


def test_retries_end() -> None:
    policy = RetryPolicy(retries=2)
    assert policy.wait_s(2, busy(None)) is not None
    assert policy.wait_s(3, busy(None)) is None


def test_errors_that_waiting_does_not_fix_are_not_retried() -> None:
    for error in (InvalidInput("no"), TimedOut("slow")):
        assert RetryPolicy().wait_s(1, error) is None
