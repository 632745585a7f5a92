"""Decide whether to send a request again and how long to wait first. Nothing here sleeps."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from random import random

from lensmount_client._errors import (
    Busy,
    LensmountError,
    ProblemError,
    QuotaExceeded,
    RequestTimeout,
    ServerUnreachable,
    Unavailable,
    Unusable,
)

RETRYABLE = (Busy, RequestTimeout, ServerUnreachable, Unavailable)


@dataclass(frozen=True)
class RetryPolicy:
    """`Client(retries=RetryPolicy(retries=5, max_wait_s=60))`, or just `Client(retries=5)`.

    Lost connections and the statuses 408, 429 and 503 are retried `retries` times, except what is `Unusable` and a
    quota that does not refill. The wait is the one that Retry-After asks for plus up to a quarter at random. Without
    Retry-After it is `backoff_s`, doubled with each attempt, of which half is random. `max_wait_s` caps both before the
    random part is drawn.

    Every request of this client may be sent twice without harm: predictions change nothing, uploads are
    named by their content, each submitted job has its own key, and deleting twice is the same as deleting once.
    """

    retries: int = 3
    backoff_s: float = 0.25
    max_wait_s: float = 20.0
    random: Callable[[], float] = random  # in [0, 1)
    clock: Callable[[], float] = time.time

    def wait_s(self, failures: int, error: LensmountError) -> float | None:
        """Seconds to wait after this many failed attempts (1, 2, ...), or None to give up."""
        if failures > self.retries or not isinstance(error, RETRYABLE) or isinstance(error, Unusable):
            return None
        asked_s = error.retry_after_s if isinstance(error, ProblemError) else None
        if isinstance(error, QuotaExceeded) and asked_s is None:
            return None  # what the token stores: waiting frees nothing
        if asked_s:
            return min(asked_s, self.max_wait_s) * (1 + self.random() / 4)
        backoff_s = self.backoff_s * 2.0 ** min(failures - 1, 30)
        return min(backoff_s, self.max_wait_s) * (1 + self.random()) / 2


def parse_retry_after(value: str | None, now_s: float) -> float | None:
    """Seconds from a Retry-After header, which is a number of seconds or an HTTP date. None for anything else.

    >>> parse_retry_after("120", now_s=0.0)
    120.0
    >>> parse_retry_after("Thu, 01 Jan 1970 00:01:00 GMT", now_s=0.0)
    60.0
    """
    if value is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value.strip()):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = moment.timestamp() - now_s
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return seconds if seconds >= 0 else None
