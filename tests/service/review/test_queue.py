"""The queue of reviews: one at a time, a few wait, results are kept, and no end of a process stops it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lensmount_service.errors import QueueFull
from lensmount_service.review.queue import MAX_WAITING, ReviewOrder, ReviewQueue

Until = Callable[..., None]

ANSWERS = """
import json, pathlib, sys, time
order = json.load(sys.stdin)
archive = pathlib.Path(order["archive"])
print(json.dumps({"phase": "features", "done": 1, "total": 2}), flush=True)
if archive.name.startswith("slow"):
    while not archive.exists():
        time.sleep(0.01)
if archive.name == "dies.zip":
    sys.exit(3)
if archive.name == "bad.zip":
    print(json.dumps({"error": "found nothing. Fix: add images", "code": "x"}))
else:
    print(json.dumps({"review": {"images": 2, "of": archive.name, "groups": order["group_regex"]}}))
"""


def order(folder: Path, name: str) -> ReviewOrder:
    return ReviewOrder(f"sha256:{name}", folder / f"{name}.zip", "resnet", None, "sha256:" + "ab" * 32, 1000, 1000)


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[ReviewQueue]:
    queue = ReviewQueue(tmp_path / "reviews", (sys.executable, "-c", ANSWERS))
    yield queue
    queue.close()


def test_a_review_runs_once_and_its_result_is_kept(queue: ReviewQueue, tmp_path: Path, until: Until) -> None:
    cells = order(tmp_path, "cells")
    assert queue.status(cells).state == "none"

    assert queue.ask(cells).state == "running"
    until(lambda: queue.status(cells).state == "done")

    assert queue.status(cells).review == {"images": 2, "of": "cells.zip", "groups": None}
    assert queue.ask(cells).state == "done"
    again = ReviewQueue(tmp_path / "reviews", ("false",))
    assert again.ask(cells).review == {"images": 2, "of": "cells.zip", "groups": None}
    again.close()


def test_each_expression_for_groups_has_a_result_of_its_own(queue: ReviewQueue, tmp_path: Path, until: Until) -> None:
    plain = order(tmp_path, "cells")
    orders = [plain, *(dataclasses.replace(plain, group_regex=regex) for regex in ("^(p1)", "^(p2)"))]
    for each in orders:
        queue.ask(each)
    until(lambda: all(queue.status(each).state == "done" for each in orders))

    found = [(queue.status(each).review or {}).get("groups") for each in orders]
    assert found == [None, "^(p1)", "^(p2)"]
    assert queue.remove_orphans({"sha256:cells"}) == 0
    assert queue.remove_orphans(set()) == 3


def test_progress_is_told_others_wait_and_too_many_are_refused(
    queue: ReviewQueue, tmp_path: Path, until: Until
) -> None:
    slow = order(tmp_path, "slow")
    queue.ask(slow)
    until(lambda: queue.status(slow).total == 2)
    assert (queue.status(slow).phase, queue.status(slow).done) == ("features", 1)

    waiting = [order(tmp_path, f"n{index}") for index in range(MAX_WAITING - 1)]
    assert {queue.ask(each).state for each in waiting} == {"waiting"}
    assert queue.ask(waiting[0]).state == "waiting"  # the same again takes no place
    with pytest.raises(QueueFull, match="Fix: try again later"):
        queue.ask(order(tmp_path, "more"))

    slow.archive.touch()
    until(lambda: queue.status(waiting[-1]).state == "done")
    assert queue.ask(order(tmp_path, "more")).state == "running"


@pytest.mark.parametrize(("name", "message"), [("bad", "Fix: add images"), ("dies", "ended early. Fix: ask again")])
def test_a_failure_is_said_and_asking_again_tries_again(
    queue: ReviewQueue, tmp_path: Path, until: Until, name: str, message: str
) -> None:
    failing = order(tmp_path, name)

    queue.ask(failing)
    until(lambda: queue.status(failing).state == "failed")

    assert message in str(queue.status(failing).error)
    assert queue.ask(failing).state == "running"


def test_a_command_that_cannot_start_fails_the_review_and_not_the_queue(tmp_path: Path, until: Until) -> None:
    queue = ReviewQueue(tmp_path / "reviews", (str(tmp_path / "missing"),))
    for name in ("one", "two"):
        queue.ask(order(tmp_path, name))
        until(lambda name=name: queue.status(order(tmp_path, name)).state == "failed")
    queue.close()


def test_closing_ends_the_running_review_at_once(tmp_path: Path, until: Until) -> None:
    queue = ReviewQueue(tmp_path / "reviews", (sys.executable, "-c", ANSWERS))
    slow = order(tmp_path, "slow")
    queue.ask(slow)
    until(lambda: queue.status(slow).total == 2)

    queue.close()

    assert queue.status(slow).state == "failed"


def test_results_without_a_version_are_removed(queue: ReviewQueue, tmp_path: Path, until: Until) -> None:
    for name in ("kept", "gone"):
        queue.ask(order(tmp_path, name))
        until(lambda name=name: queue.status(order(tmp_path, name)).state == "done")

    assert queue.remove_orphans({"sha256:kept"}) == 1
    assert queue.status(order(tmp_path, "kept")).state == "done"
    assert queue.status(order(tmp_path, "gone")).state == "none"
