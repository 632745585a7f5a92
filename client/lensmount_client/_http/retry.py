"""When to send a request again, and how long to wait before; decides, never sleeps."""

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
    RequestTimeout,
    ServerUnreachable,
    Unavailable,
)

RETRYABLE = (Busy, RequestTimeout, ServerUnreachable, Unavailable)


@dataclass(frozen=True)
class RetryPolicy:
    """`Client(retries=RetryPolicy(retries=5, max_wait_s=60))`, or just `Client(retries=5)`.

    Lost connections and the statuses 408, 429 and 503 are tried again `retries` times. The wait is what
    Retry-After asks for and up to a quarter more, or else `backoff_s` doubling with each attempt, half of it
    by chance. `max_wait_s` caps both before the chance is added.

    Every request of this client may be sent twice without harm: predictions change nothing, uploads are
    named by their content, a submitted job has a key of its own, and deleting what is gone leaves it gone.
    """

    retries: int = 3
    backoff_s: float = 0.25
    max_wait_s: float = 20.0
    random: Callable[[], float] = random  # in [0, 1)
    clock: Callable[[], float] = time.time

    def wait_s(self, failures: int, error: LensmountError) -> float | None:
        """Seconds to wait after so many failed attempts (1, 2, ...), or None to give up."""
        if failures > self.retries or not isinstance(error, RETRYABLE):
            return None
        asked_s = error.retry_after_s if isinstance(error, ProblemError) else None
        if asked_s:
            return min(asked_s, self.max_wait_s) * (1 + self.random() / 4)
        backoff_s = self.backoff_s * 2.0 ** min(failures - 1, 30)
        return min(backoff_s, self.max_wait_s) * (1 + self.random()) / 2


def parse_retry_after(value: str | None, now_s: float) -> float | None:
    """Seconds from a Retry-After header, which holds seconds or an HTTP date; None for anything else.

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
