"""Waiting for a review: until it is done, failed, or the time is over."""

from __future__ import annotations

import pytest

from lensmount_client import DatasetReview, ReviewFailed
from lensmount_client._api.reviews import ReviewState
from lensmount_client._errors import WaitTimeout
from lensmount_client._resources.review_wait import ReviewWait

REVIEW = DatasetReview("cells", 1, 2, 2, None, 0, (), (), (), (), {})


def answer(state: str, done: int = 0, total: int = 0, error: str | None = None) -> ReviewState:
    return ReviewState(state, 1, done, total, REVIEW if state == "done" else None, error)


def test_it_reports_progress_and_ends_with_the_review() -> None:
    told: list[tuple[int, int | None]] = []
    wait = ReviewWait("cells", lambda done, total: told.append((done, total)))

    assert wait.result(answer("waiting")) is None
    assert wait.result(answer("running", 3, 9)) is None
    assert wait.result(answer("done")) is REVIEW
    assert told == [(3, 9)]


def test_the_pauses_double_up_to_two_seconds() -> None:
    wait = ReviewWait("cells", lambda done, total: None)

    assert [round(wait.next_s(), 1) for _ in range(6)] == [0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_a_failure_says_why() -> None:
    wait = ReviewWait("cells", lambda done, total: None)

    with pytest.raises(ReviewFailed, match=r"the review of cells failed: found nothing\. Fix: add images"):
        wait.result(answer("failed", error="found nothing. Fix: add images"))


def test_the_time_that_is_over_ends_the_wait_and_shortens_the_last_pause() -> None:
    now = 0.0
    wait = ReviewWait("cells", lambda done, total: None, timeout_s=0.3, clock=lambda: now)

    assert wait.result(answer("running")) is None
    assert [round(wait.next_s(), 1) for _ in range(2)] == [0.2, 0.3]
    now = 0.3
    with pytest.raises(WaitTimeout, match=r"within 0\.3 s; it continues"):
        wait.result(answer("running"))
