"""Wait for a review without I/O: what to make of each answer, and how long to sleep until the next question."""

from __future__ import annotations

import time
from collections.abc import Callable

from lensmount_client._api.reviews import ReviewState
from lensmount_client._errors import ReviewFailed, WaitTimeout
from lensmount_client._types.progress import Report
from lensmount_client._types.reviews import DatasetReview

SHORTEST_S, LONGEST_S = 0.1, 2.0  # between two questions


class ReviewWait:
    """`while (review := wait.result(answer)) is None: sleep(wait.next_s()); answer = ask()`."""

    def __init__(
        self,
        name: str,
        report: Report,
        timeout_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._report = report
        self._clock = clock
        self._timeout_s = timeout_s
        self._until = None if timeout_s is None else clock() + timeout_s
        self._pause_s = SHORTEST_S

    def result(self, answer: ReviewState) -> DatasetReview | None:
        """The review, or None if it is not done. Raises ReviewFailed, or WaitTimeout."""
        if answer.state == "failed":
            raise ReviewFailed(f"the review of {self._name} failed: {answer.error}")
        if answer.review is not None:
            return answer.review
        if answer.total:
            self._report(answer.done, answer.total)
        if self._until is not None and self._clock() >= self._until:
            raise WaitTimeout(f"the review of {self._name} has not ended within {self._timeout_s:g} s; it continues")
        return None

    def next_s(self) -> float:
        """Seconds to sleep; they double up to two."""
        self._pause_s = min(LONGEST_S, 2 * self._pause_s)
        left = LONGEST_S if self._until is None else max(0.0, self._until - self._clock())
        return min(self._pause_s, left)
