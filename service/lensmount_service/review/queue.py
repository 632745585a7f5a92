"""The reviews that clients have asked for: one is computed at a time, a few wait, and the results are kept in files.

A result belongs to the content of a version and to the backbone, so its file is named after both digests. It is removed
with `remove_orphans` once no version has this content.

| attribute | threads | lock or owner |
|---|---|---|
| `_waiting`, `_failed`, `_progress` | requests, the queue's own | `_changed` |
| `_process` | the queue's own, `close` | `_changed` |
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import structlog

from lensmount_adapters.atomic import write_atomic
from lensmount_service.errors import QueueFull
from lensmount_service.store.keys import DEFAULT_TENANT

log = structlog.get_logger(__name__)

MAX_WAITING = 8  # reviews that wait or are computed, and as many more of tenants of whom none does
MAX_SECONDS = 7200.0  # 50,000 images at 40 ms take 2,000
_KEPT_FAILURES = 64
COMMAND = (sys.executable, "-m", "lensmount_service.review.run")

State = Literal["none", "waiting", "running", "done", "failed"]


@dataclass(frozen=True, slots=True)
class ReviewStatus:
    """How far a review is. `review` is the result if it is done, and `error` says why it failed."""

    state: State
    phase: str | None = None
    done: int = 0
    total: int = 0
    review: Mapping[str, Any] | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ReviewOrder:
    """What is reviewed (the digest of a version and its archive), and with which backbone, limits and groups.

    `group_regex` finds the groups that the version does not state, as in training.
    """

    digest: str
    archive: Path
    backbone: str
    weights: str | None
    fingerprint: str
    max_image_bytes: int
    max_pixels: int
    group_regex: str | None = None
    tenant: str = DEFAULT_TENANT  # each has results of its own, which tell nothing of another's datasets

    @property
    def file(self) -> str:
        words = [self.digest.removeprefix("sha256:"), self.fingerprint.removeprefix("sha256:")[:16]]
        if self.group_regex is not None:
            words.append(hashlib.sha256(self.group_regex.encode()).hexdigest()[:16])
        if self.tenant != DEFAULT_TENANT:
            words.append(self.tenant)
        return f"{'-'.join(words)}.json"

    def to_json(self) -> str:
        words = ("backbone", "weights", "max_image_bytes", "max_pixels", "group_regex")
        return json.dumps({"archive": str(self.archive), **{word: getattr(self, word) for word in words}})


class ReviewQueue:
    """`queue.ask(order)` starts a review or says how far it is; `queue.status(order)` only says it. Any thread."""

    def __init__(self, folder: Path, command: tuple[str, ...] = COMMAND) -> None:
        self._folder = folder
        self._command = command
        self._changed = threading.Condition()
        self._waiting: OrderedDict[str, ReviewOrder] = OrderedDict()  # the first is running
        self._failed: OrderedDict[str, str] = OrderedDict()
        self._progress = ReviewStatus("running")
        self._process: subprocess.Popen[str] | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    def ask(self, order: ReviewOrder) -> ReviewStatus:
        """Queue the review unless it is done, running or waiting. Raises QueueFull."""
        with self._changed:
            known = self._status(order)
            if known.state not in ("none", "failed"):
                return known
            mine = any(each.tenant == order.tenant for each in self._waiting.values())
            if len(self._waiting) >= MAX_WAITING * (1 if mine else 2):
                raise QueueFull(
                    f"found {len(self._waiting)} reviews that wait, expected fewer. Fix: try again later",
                    retry_after_s=30,
                )
            self._failed.pop(order.file, None)
            self._waiting[order.file] = order
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lensmount-review", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            return self._status(order)

    def status(self, order: ReviewOrder) -> ReviewStatus:
        with self._changed:
            return self._status(order)

    def close(self) -> None:
        """End the running review, which can be asked for again."""
        with self._changed:
            self._closed = True
            if self._process is not None:
                self._process.kill()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def remove_orphans(self, digests: set[str]) -> int:
        """Remove the results of contents that no version has. Returns how many."""
        needed = {digest.removeprefix("sha256:") for digest in digests}
        gone = [path for path in self._folder.glob("*.json") if path.name.partition("-")[0] not in needed]
        for path in gone:
            path.unlink(missing_ok=True)
        return len(gone)

    def _status(self, order: ReviewOrder) -> ReviewStatus:
        if order.file in self._waiting:
            return self._progress if next(iter(self._waiting)) == order.file else ReviewStatus("waiting")
        if order.file in self._failed:
            return ReviewStatus("failed", error=self._failed[order.file])
        try:
            return ReviewStatus("done", review=json.loads((self._folder / order.file).read_bytes()))
        except (OSError, ValueError):
            return ReviewStatus("none")

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                order = next(iter(self._waiting.values()))
                self._progress = ReviewStatus("running")
            try:
                error = self._compute(order)
            except Exception as failure:  # the thread's boundary: the next review must still be computed
                log.exception("review failed")
                error = type(failure).__name__
            with self._changed:
                del self._waiting[order.file]
                if error is not None:
                    self._failed[order.file] = error
                    while len(self._failed) > _KEPT_FAILURES:
                        self._failed.popitem(last=False)

    def _compute(self, order: ReviewOrder) -> str | None:
        """Run one review to its end. Returns why it failed, or None."""
        started = time.monotonic()
        with self._changed:
            if self._closed:
                return "the server is shutting down. Fix: ask again later"
            process = self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,  # Ctrl-C is for the server, which ends the review
            )
        limit = threading.Timer(MAX_SECONDS, process.kill)
        limit.start()
        last: dict[str, Any] = {}
        try:
            with process, contextlib.suppress(BrokenPipeError):
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(order.to_json())
                process.stdin.close()
                for line in process.stdout:
                    last = json.loads(line)
                    if "phase" in last:
                        with self._changed:
                            self._progress = ReviewStatus("running", last["phase"], last["done"], last["total"])
        finally:
            limit.cancel()
            with self._changed:
                self._process = None
        if "review" not in last:
            return str(last.get("error") or "the review ended early. Fix: ask again, or see that the memory suffices")
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomic(self._folder / order.file, json.dumps(last["review"]).encode())
        log.info("reviewed", digest=order.digest, seconds=round(time.monotonic() - started, 1))
        return None
