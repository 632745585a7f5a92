"""The single owner of the backbone: a thread that computes the batches that the scheduler forms.

Forward passes, switches and integrity checks run in one loop, so no request can see a half-mounted adapter.

The table lists the state that several threads of a server share. The event loop parses requests, `asyncio.to_thread`
runs the calls that may block ("requests"), decode and admit threads read images and zip files, and the engine's thread
computes. The docstring of lensmount_adapters/runners/__init__.py has the same table for the runner.

| attribute | threads | lock or owner |
|---|---|---|
| `Engine.runner`: `scores`, `maps`, `rest`, `changed`, `close` | engine | the engine's thread, until it ends |
| `Engine._chores` | loop appends, engine pops | one deque operation each; then `Scheduler.interrupt` |
| `Scheduler`: lanes, room, deadlines, turns | all | `_wake`; `waiting` and `closed` read one value without it |
| `Catalog._pinned` | requests, warm-up | `_writing`, held from publication to pin; the names never change |
| rows and files of adapters | requests | `_writing`, and the database's transaction between processes |
| gauges of cached bytes | requests | `Catalog._observing`, from the sum to the gauge |
| `AdapterCache` | all | its own `_lock`; loads run without it and are shared |
| `StampedCache._values` | all | `_writing` to write; replaced as a whole, and entries are only added |
| `Database._watcher`, `._watchers` | all | `_watching`; every other connection belongs to one thread at a time |
| `registry._parsed` | all | `lru_cache`'s own |
| `Metrics._labels` | all | its own `_lock`; prometheus_client locks each value |
| `Metrics.adapter_resident` | loop | the event loop, cleared and filled without an `await` in between |
| `BlobStore`, `RemoteBlobs`, `Uploads` | all | nothing in memory: files that are renamed or locked (`flock`) |
| `DatasetStore`, `JobTable`, `JobFiles` | all | nothing in memory: files that are renamed, and transactions |
| `Training.stopping`, `DatasetStore._closing` | all | an Event, set once |
| `WorkerProcess._process` | supervisor, `pid` reads it | the supervisor's thread; subprocess locks its wait |

In a worker's process: the job's thread replaces `Heartbeat.progress`, and the heartbeat's thread reads it. The job's
thread owns `Worker._lease` and `Worker.damaged`; the main thread reads each of them. `_lock` guards
`CheckpointSender._idle` and its offers. `ServerClient` has an httpx.Client, which is safe from any thread.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Self

import structlog
import torch
from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import SwapError
from lensmount_adapters.runners.runner import BatchScores, GivesMaps, Runner, by_adapter
from lensmount_service.engine.scheduler import QueuedImage, Scheduler
from lensmount_service.errors import Unavailable
from lensmount_service.metrics import Metrics

log = structlog.get_logger(__name__)

MAPS = "maps"  # the group of images that are queued for their maps


@dataclass(frozen=True, slots=True)
class Answer:
    """The scores [classes] of one image, and how long each step took.

    `pooled` [channels] tells an unfamiliar image; None if the adapter has no statistics for it.
    `maps` [orientations, feature_dim, rows, columns] are the last maps, for images that were queued for them.
    """

    scores: Tensor
    queue_s: float
    swap_s: float
    forward_s: float
    batch_size: int
    pooled: Tensor | None = None
    maps: Tensor | None = None


@dataclass(frozen=True, slots=True)
class IntegrityReport:
    """Which resident tensors differ from their hash at start; `ok` if none does."""

    tensors: int
    changed: tuple[str, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        return not self.changed


class Engine:
    """`with Engine(backbone, runner, metrics) as engine: engine.submit(adapter, image).result().scores`"""

    def __init__(
        self,
        backbone: Backbone,
        runner: Runner,
        metrics: Metrics,
        max_batch: int = 16,
        max_queue: int = 256,
        *,
        max_turn_s: float = 0.5,
        batch_window_ms: float = 0.0,
    ) -> None:
        self.backbone = backbone
        self.runner = runner
        self._metrics = metrics
        self._scheduler: Scheduler[Answer] = Scheduler(
            max_batch, max_queue, mix=runner.mixes, max_turn_s=max_turn_s, batch_window_ms=batch_window_ms
        )
        self._chores: deque[tuple[Callable[[], IntegrityReport], Future[IntegrityReport]]] = deque()
        self._thread = threading.Thread(target=self._run, name="lensmount-engine", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def accepting(self) -> bool:
        return self._thread.is_alive() and not self._scheduler.closed

    @property
    def waiting(self) -> int:
        """Images that no batch has taken yet."""
        return self._scheduler.waiting

    def stop(self, timeout_s: float = 30.0) -> None:
        """Refuse new work, finish accepted work, end the thread.

        The thread itself closes the runner, so that a batch that outlasts the timeout keeps its adapter.
        """
        self._scheduler.close()
        self._thread.join(timeout_s)

    def submit(self, adapter: Adapter, image: Tensor, deadline: float = math.inf, caller: str = "") -> Future[Answer]:
        """Queue one preprocessed image. Raises QueueFull or Unavailable (`draining`)."""
        return self.submit_many([(adapter, image)], deadline, caller)[0]

    def submit_many(
        self, work: list[tuple[Adapter, Tensor]], deadline: float = math.inf, caller: str = ""
    ) -> list[Future[Answer]]:
        """Queue the images of one request, all or none. `caller` says who sent it; callers take turns.

        An image that is still queued at `deadline`, on the clock of `time.perf_counter`, fails with DeadlineExceeded.
        """
        items: list[QueuedImage[Answer]] = [
            QueuedImage(adapter, image, deadline, caller=caller) for adapter, image in work
        ]
        self._scheduler.submit(items)
        return [item.future for item in items]

    def submit_for_maps(
        self, adapter: Adapter, image: Tensor, deadline: float = math.inf, caller: str = ""
    ) -> Future[Answer]:
        """Like `submit`, for an adapter whose maps the runner prepared (`GivesMaps`). Batches have such images only."""
        item: QueuedImage[Answer] = QueuedImage(adapter, image, deadline, MAPS, caller)
        self._scheduler.submit([item])
        return item.future

    def check_room(self, adapters: Sequence[Adapter], caller: str = "") -> None:
        """Raises QueueFull early, before a body is read and decoded in vain."""
        self._scheduler.check_room([adapter.digest for adapter in adapters], caller)

    def require_fit(self, images: int) -> None:
        """Raises BodyTooLarge (`batch_too_large`) early, for more results than fit into an empty queue."""
        self._scheduler.require_fit(images)

    def integrity(self) -> Future[IntegrityReport]:
        """Restore the base weights, then compare the hash of every resident tensor with its hash at start.

        Batches that wait are computed in between.
        """
        future: Future[IntegrityReport] = Future()
        self._chores.append((self._check_integrity, future))
        try:
            self._scheduler.interrupt()
        except Unavailable:
            future.cancel()
            raise
        return future

    def _run(self) -> None:
        try:
            self._compute()
        finally:
            self.runner.close()

    def _compute(self) -> None:
        while (batch := self._scheduler.next_batch()) is not None:
            while self._chores:
                self._do_chore(*self._chores.popleft())
            if batch:
                self._answer_or_refuse(batch)

    def _answer_or_refuse(self, batch: list[QueuedImage[Answer]]) -> None:
        try:
            self._answer(batch)
        except Exception:  # not even a log that cannot be written may end the engine or leave a caller waiting
            self._refuse(
                batch, Unavailable("the engine failed. Fix: try again", code="forward_failed", retry_after_s=1)
            )

    def _answer(self, batch: list[QueuedImage[Answer]]) -> None:
        """A batch that fails is run again one adapter at a time, so that a faulty adapter does not fail the others."""
        started = time.perf_counter()
        try:
            outcome = self._outcome(batch)
        except Exception as error:  # the loop's boundary: the engine must outlive any batch
            groups = by_adapter(batch)
            if len(groups) > 1:
                for _, rows in groups:
                    self._answer([batch[row] for row in rows])
            else:
                self._fail(batch, error)
            return
        self._observe(outcome, len(batch))
        every_map: Sequence[Tensor | None] = outcome.maps or [None] * len(batch)
        for item, scores, pooled, maps in zip(batch, outcome.scores, outcome.pooled, every_map, strict=True):
            queue_s = started - item.accepted_at
            self._metrics.queue_seconds.observe(queue_s)
            if torch.isfinite(scores).all():
                times = queue_s, outcome.swap_s, outcome.forward_s
                item.future.set_result(Answer(scores, *times, len(batch), pooled, maps))
            else:
                item.future.set_exception(
                    Unavailable(
                        f"{item.adapter.manifest.name}: the scores for this image are not finite. "
                        "Fix: check the adapter, or serve in float32",
                        code="output_not_finite",
                    )
                )

    def _outcome(self, batch: list[QueuedImage[Answer]]) -> BatchScores:
        if batch[0].group != MAPS:
            return self.runner.scores(batch)
        assert isinstance(self.runner, GivesMaps)  # it prepared these adapters
        return self.runner.maps(batch)

    def _observe(self, outcome: BatchScores, images: int) -> None:
        self._metrics.batch_size.observe(images)
        for mode, count in outcome.modes.items():
            self._metrics.images.labels(mode).inc(count)
        if outcome.switches:
            self._metrics.switches.labels("memory", "merged").inc(outcome.switches)
            self._metrics.switch_seconds.observe(outcome.swap_s)

    def _check_integrity(self) -> IntegrityReport:
        started = time.perf_counter()
        self.runner.rest()
        changed = tuple(self.runner.changed(self._give_way))
        if changed:
            self._metrics.restore_mismatch.inc(len(changed))
            log.error("integrity violated", tensors=changed[:10], count=len(changed))
        return IntegrityReport(len(self.backbone.tensors), changed, time.perf_counter() - started)

    def _give_way(self) -> None:
        """Compute one batch that waits, so that a check delays nobody by more than the hash of one tensor."""
        if batch := self._scheduler.next_batch(block=False):
            self._answer_or_refuse(batch)
            self.runner.rest()

    def _do_chore(self, chore: Callable[[], IntegrityReport], future: Future[IntegrityReport]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(chore())
        except Exception as error:  # the loop's boundary, as above
            log.exception("integrity check failed")
            future.set_exception(error)

    @classmethod
    def _fail(cls, batch: list[QueuedImage[Answer]], error: Exception) -> None:
        """Report the failure to the callers of one adapter's images."""
        name = batch[0].adapter.manifest.name
        if isinstance(error, SwapError):
            cls._refuse(batch, Unavailable(f"{error}. Fix: try again", code="swap_failed", retry_after_s=1))
            return
        message = f"the forward pass failed ({type(error).__name__}). Fix: try again, with smaller batches"
        cls._refuse(batch, Unavailable(message, code="forward_failed", retry_after_s=1))
        log.error("forward failed", adapter=name, batch_size=len(batch), exc_info=error)

    @staticmethod
    def _refuse(batch: list[QueuedImage[Answer]], error: Unavailable) -> None:
        for item in batch:
            if not item.future.done():
                item.future.set_exception(error)
