"""The single owner of the backbone: a thread that computes the batches that the scheduler forms.

Forward passes, switches and integrity checks run in one loop, so no request can see a half-mounted adapter.

The table lists the state that several threads of a server share. The event loop parses requests, `asyncio.to_thread`
runs the calls that may block ("requests"), decode and admit threads read images and zip files, and the engine's thread
computes. The docstring of lensmount_adapters/runners/__init__.py has the same table for the runner.

| attribute | threads | lock or owner |
|---|---|---|
| `Engine.runner`: `scores`, `maps`, `rest`, `changed`, `close` | engine | the engine's thread, until it ends |
| `Engine._chores` | loop appends, engine pops | one deque operation each; then `Scheduler.interrupt` |
| `Engine._memory_limit` | engine | the engine's thread |
| `Engine.lost` | engine writes once, all read | one text |
| `Shadows`: queue, bytes, thread | engine offers, its own threads take | its own `_wake` |
| `._computing`, `._left_behind` | lensmount-shadows; offers read the second | its thread; replaced |
| `Quarantine` | all | its own `_lock`; `in` and `worked` read one value without it |
| `Scheduler`: lanes, room, deadlines, turns | all | `_wake`; `waiting` and `closed` read one value without it |
| `Catalog._pinned` | requests, warm-up | `_writing`, held from publication to pin; the names never change |
| `Catalog._asked` | all | one operation of a dict or a set each |
| rows and files of adapters | requests | `_writing`, and the database's transaction between processes |
| gauges of cached bytes | requests | `Catalog._observing`, from the sum to the gauge |
| `AdapterCache` | all | its own `_lock`; loads run without it and are shared |
| `StampedCache._values` | all | `_writing` to write; replaced as a whole, and entries are only added |
| `Database._watcher`, `._watchers` | all | `_watching`; every other connection belongs to one thread at a time |
| `registry._parsed` | all | `lru_cache`'s own |
| `Metrics._labels` | all | its own `_lock`; prometheus_client locks each value |
| `Metrics.adapter_resident` | loop | the event loop, cleared and filled without an `await` in between |
| `Meter` | all | its own `_lock` |
| `BoundedPool._lines`, `._had` | loop appends, its threads take | its own `_lock`; `_waiting` belongs to the loop |
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
from typing import Self

import structlog
import torch
from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.programs.capturing import give_memory_back
from lensmount_adapters.runners.kept_trunk import Branches, KeepsTrunk, Kept
from lensmount_adapters.runners.runner import BatchScores, GivesMaps, Runner, Sheds, by_adapter
from lensmount_adapters.runners.stages import of_each_item
from lensmount_service.engine.answer import Answer as Answer
from lensmount_service.engine.answer import IntegrityReport as IntegrityReport
from lensmount_service.engine.failures import Failure
from lensmount_service.engine.memory import MemoryLimit, answers
from lensmount_service.engine.scheduler import QueuedImage, Scheduler
from lensmount_service.engine.shadows import Shadow, Shadows
from lensmount_service.errors import Unavailable, Unusable
from lensmount_service.metrics import Metrics
from lensmount_service.quarantine import Quarantine
from lensmount_service.tracing.span import current

log = structlog.get_logger(__name__)

MAPS = "maps"  # the group of images that are queued for their maps


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
        self.quarantine = Quarantine()
        self.lost = ""  # why the device answers no more
        self._on_lost: Callable[[], object] = lambda: None
        self._metrics = metrics
        self._scheduler: Scheduler[Answer] = Scheduler(
            max_batch, max_queue, mix=runner.mixes, max_turn_s=max_turn_s, batch_window_ms=batch_window_ms
        )
        branches = runner.branches if isinstance(runner, KeepsTrunk) else Branches
        self.shadows = Shadows(branches, self._sheds_shadows)
        self.stopping: Callable[[], bool] = lambda: False  # whether the process was told to stop
        self._max_batch = max_batch
        self._memory_limit = MemoryLimit()
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
    def started(self) -> bool:
        """Whether the engine has begun to compute; it may have stopped since."""
        return self._thread.ident is not None

    def when_lost(self, call: Callable[[], object]) -> None:
        """Call this in the engine's thread once the device answers no more."""
        self._on_lost = call

    @property
    def waiting(self) -> int:
        """Images that no batch has taken yet, without those of low priority."""
        return self._scheduler.waiting

    def stop(self, timeout_s: float = 30.0) -> None:
        """Refuse new work, finish accepted work, end the thread.

        The thread itself closes the runner, so that a batch that outlasts the timeout keeps its adapter.
        """
        self._scheduler.close()
        self.shadows.close()
        self._thread.join(timeout_s)
        self.shadows.join()

    def submit(self, adapter: Adapter, image: Tensor, deadline: float = math.inf, caller: str = "") -> Future[Answer]:
        """Queue one preprocessed image. Raises QueueFull or Unavailable (`draining`)."""
        return self.submit_many([(adapter, image)], deadline, caller)[0]

    def submit_many(
        self,
        work: list[tuple[Adapter, Tensor]],
        deadline: float = math.inf,
        caller: str = "",
        *,
        tenant: str = "",
        trial: bool = False,
        shadows: Sequence[Shadow | None] = (),
        names: Sequence[str] = (),
    ) -> list[Future[Answer]]:
        """Queue the images of one request, all or none. `caller` says who sent it; callers take turns.

        An image that is still queued at `deadline`, on the clock of `time.perf_counter`, fails with DeadlineExceeded.
        A `trial` is of an adapter that is not published yet: its failures do not count for the quarantine, and it
        shares no batch with requests, because a mixed batch may change the last bits of their scores.
        `shadows`: for each image, what is computed in its shadow after it was answered. `names`: of each image's
        adapter. Without them, two versions of one name count as two adapters (engine/quiet.py).
        """
        group, traced = "trial" if trial else None, current().recording
        items: list[QueuedImage[Answer]] = [
            QueuedImage(adapter, image, deadline, group, caller, tenant, trial, shadow, traced, name=name)
            for (adapter, image), shadow, name in zip(
                work, shadows or [None] * len(work), names or [""] * len(work), strict=True
            )
        ]
        return self.queue(items)

    def submit_for_maps(
        self, adapter: Adapter, image: Tensor, deadline: float = math.inf, caller: str = "", tenant: str = ""
    ) -> Future[Answer]:
        """Like `submit`, for an adapter whose maps the runner prepared (`GivesMaps`). Batches have such images only."""
        traced = current().recording
        return self.queue([QueuedImage(adapter, image, deadline, MAPS, caller, tenant, traced=traced)])[0]

    def queue(self, items: list[QueuedImage[Answer]]) -> list[Future[Answer]]:
        """Queue the images of one request, all or none, all of one priority."""
        if self.lost:
            raise self.lost_error()
        self._scheduler.submit(items)
        return [item.future for item in items]

    def check_room(self, adapters: Sequence[Adapter], caller: str = "", coming: int = 0, *, low: bool = False) -> None:
        """Raises QueueFull early, before a body is read and decoded in vain. `coming` images wait to be decoded."""
        self._scheduler.check_room([adapter.digest for adapter in adapters], caller, coming, low=low)

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
            for part in self._memory_limit.parts_of(batch):
                self._answer(part)
        except Exception:  # not even a log that cannot be written may end the engine or leave a caller waiting
            self._refuse(
                batch, Unavailable("the engine failed. Fix: try again", code="forward_failed", retry_after_s=1)
            )

    def _answer(self, batch: list[QueuedImage[Answer]]) -> Failure | None:
        """A batch that fails is run again in parts (`Failure.parts_of`), so that nobody fails the others.

        Returns the failure of an image that found no memory alone. All this is outside the `except` block: until it
        ends, the exception holds the tensors of the failed pass (pytorch/pytorch#18853).
        """
        started = time.perf_counter()
        failure: Failure | None = None
        try:
            outcome, kept = self._outcome(batch)
        except Exception as error:  # the loop's boundary: the engine must outlive any batch
            failure = Failure.of(error)
            if not failure.out_of_memory or len(batch) == 1:
                log.error("forward failed", adapters=len(by_adapter(batch)), batch_size=len(batch), exc_info=error)
        if failure is None:
            self._memory_limit.worked(batch)
            self._give(batch, outcome, started)
            self._offer(batch, outcome, kept)
            return None
        if failure.device_lost or not answers(self.backbone.device):
            self._give_up(batch, failure)
            return None
        if failure.out_of_memory:
            give_memory_back(self.backbone.device)  # so that a smaller batch finds room in one piece
            self._metrics.out_of_memory.inc()
            self._memory_limit.failed(batch)
        parts, halves = failure.parts_of(batch)
        if len(parts) == 1:
            if failure.out_of_memory and isinstance(self.runner, Sheds) and self.runner.shed():
                give_memory_back(self.backbone.device)
                return self._answer(batch)  # at most once more: then there is nothing left to free
            self._fail(batch, failure)
            return failure if failure.out_of_memory else None
        alone: Failure | None = None
        for part in parts:
            if self.lost:
                self._refuse(part, self.lost_error())
            elif halves and alone is not None:
                self._fail(part, alone)  # one image alone was too much, so its neighbours are not tried
            else:
                alone = self._answer(part)
        return alone

    def _give(self, batch: list[QueuedImage[Answer]], outcome: BatchScores, started: float) -> None:
        if not all(item.trial for item in batch):  # the metrics show what clients asked for
            self._observe(outcome, len(batch))
        every_map: Sequence[Tensor | None] = outcome.maps or [None] * len(batch)
        stages = of_each_item(outcome.stages, [item.accepted_at for item in batch], started)
        told = zip(batch, outcome.scores, outcome.pooled, every_map, stages, strict=True)
        for row, (item, scores, pooled, maps, own) in enumerate(told):
            queue_s = started - item.accepted_at
            if not (item.trial or item.low):
                self._metrics.queue_seconds.observe(queue_s)
            if torch.isfinite(scores).all():
                times = queue_s, outcome.swap_s, outcome.forward_s
                self.quarantine.worked(item.adapter.digest, item.tenant)
                trunk = outcome.trunk.get(row)
                item.future.set_result(Answer(scores, *times, len(batch), pooled, maps, own, trunk))
            else:
                self._blame(item, "its scores were not finite")
                item.future.set_exception(
                    Unusable(
                        f"adapter {item.adapter.digest}: the scores for this image are not finite. "
                        "Fix: check the adapter, or serve in float32",
                        code="output_not_finite",
                    )
                )

    def _blame(self, item: QueuedImage[Answer], why: str) -> None:
        """Count a failure that is the adapter's own."""
        digest = item.adapter.digest
        if not item.trial and self.quarantine.failed(digest, why, item.tenant):
            self._metrics.quarantined.set(len(self.quarantine))
            log.error("adapter quarantined", digest=digest, reason=why)

    def _outcome(self, batch: list[QueuedImage[Answer]]) -> tuple[BatchScores, dict[int, Kept]]:
        shadows = {row: item.shadow.adapter for row, item in enumerate(batch) if item.shadow is not None}
        if shadows and isinstance(self.runner, KeepsTrunk):
            try:
                return self.runner.scores_keeping(batch, shadows)
            except Exception:  # if it is the fault of a shadow, the batch can be computed without it
                log.exception("nothing is kept for shadows", batch_size=len(batch))
        if batch[0].group != MAPS:
            return self.runner.scores(batch), {}
        assert isinstance(self.runner, GivesMaps)  # it prepared these adapters
        return self.runner.maps(batch), {}

    def _offer(self, batch: list[QueuedImage[Answer]], outcome: BatchScores, kept: dict[int, Kept]) -> None:
        """Hand over what is computed in the shadow of the answers, which are given."""
        for row, item in enumerate(batch):
            if item.shadow is not None and torch.isfinite(outcome.scores[row]).all():
                self.shadows.offer(item.shadow, kept.get(row), outcome.scores[row], outcome.pooled[row])

    def _sheds_shadows(self) -> bool:
        """Whether there is better work than shadows, or none is wanted any more."""
        return self.stopping() or self._scheduler.closed or self.waiting > self._max_batch

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

    def _give_up(self, batch: list[QueuedImage[Answer]], failure: Failure) -> None:
        """The device answers no more, so neither does this engine: the process has to be started again."""
        self.lost = f"the device {self.backbone.device} failed ({failure.kind})"
        log.critical("device lost", device=str(self.backbone.device), reason=failure.text)
        self._scheduler.close()
        self._refuse(batch, self.lost_error())
        self._on_lost()

    def lost_error(self) -> Unavailable:
        """What every later request is told."""
        return Unavailable(
            f"{self.lost}, and this process cannot use it again. Fix: start the server again; it stops by itself",
            code="device_lost",
            retry_after_s=10,
        )

    def _fail(self, batch: list[QueuedImage[Answer]], failure: Failure) -> None:
        """Report the failure to the callers of one adapter's images."""
        if failure.of_adapter:
            self._blame(batch[0], f"its forward pass failed ({failure.kind})")
        self._refuse(batch, failure.told(batch[0].adapter.digest, len(batch)))

    @staticmethod
    def _refuse(batch: list[QueuedImage[Answer]], error: Unavailable) -> None:
        for item in batch:
            if not item.future.done():
                item.future.set_exception(error)
