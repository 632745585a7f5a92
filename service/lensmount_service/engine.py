"""The one owner of the backbone: a thread that takes batches by adapter from a queue and switches only when needed.

Forward passes, switches and integrity checks are items of the same loop, so no request can see half an adapter.
The adapter whose oldest image waits longest goes next, with up to `max_batch` of its images.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Self

import structlog
import torch
from torch import Tensor

from lensmount_adapters.adapter import Adapter
from lensmount_adapters.backbone import Backbone
from lensmount_adapters.errors import SwapError
from lensmount_adapters.swap import Swapper
from lensmount_service.errors import QueueFull, Unavailable
from lensmount_service.metrics import Metrics

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """Scores [classes] of one image, and where its time went."""

    scores: Tensor
    queue_s: float
    swap_s: float
    forward_s: float
    batch_size: int


@dataclass(frozen=True, slots=True)
class IntegrityReport:
    """Which resident tensors differ from their hash at start; `ok` where none does."""

    tensors: int
    changed: tuple[str, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        return not self.changed


@dataclass(slots=True, eq=False)
class _Item:
    adapter: Adapter
    image: Tensor  # float32 [3, height, width]
    future: Future[Answer] = field(default_factory=Future)
    accepted_at: float = field(default_factory=time.perf_counter)


class Engine:
    """`with Engine(backbone, swapper, metrics) as engine: engine.submit(adapter, image).result().scores`"""

    def __init__(
        self, backbone: Backbone, swapper: Swapper, metrics: Metrics, max_batch: int = 16, max_queue: int = 256
    ) -> None:
        self.backbone = backbone
        self._swapper = swapper
        self._metrics = metrics
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._queues: OrderedDict[str, deque[_Item]] = OrderedDict()  # by digest; an empty queue is removed
        self._waiting = 0
        self._chores: deque[tuple[Callable[[], IntegrityReport], Future[IntegrityReport]]] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._seconds_per_image = 0.05
        self._thread = threading.Thread(target=self._run, name="lensmount-engine", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def mounted(self) -> str | None:
        """The digest of the adapter that is merged now."""
        adapter = self._swapper.mounted
        return adapter.digest if adapter else None

    @property
    def accepting(self) -> bool:
        return self._thread.is_alive() and not self._stopping

    def stop(self, timeout_s: float = 30.0) -> None:
        """Refuse new work, finish what was accepted, end the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        self._thread.join(timeout_s)

    def submit(self, adapter: Adapter, image: Tensor) -> Future[Answer]:
        """Queue one preprocessed image. Raises QueueFull or Unavailable (`draining`)."""
        return self.submit_many([(adapter, image)])[0]

    def submit_many(self, work: list[tuple[Adapter, Tensor]]) -> list[Future[Answer]]:
        """Queue the images of one request, all or none."""
        items = [_Item(adapter, image) for adapter, image in work]
        with self._wake:
            if self._stopping:
                raise Unavailable("the server is shutting down. Cure: try again shortly", retry_after_s=5)
            if self._waiting + len(items) > self._max_queue:
                raise self._full()
            for item in items:
                self._queues.setdefault(item.adapter.digest, deque()).append(item)
            self._waiting += len(items)
            self._wake.notify_all()
        return [item.future for item in items]

    def check_room(self) -> None:
        """Raises QueueFull early, before a body is read and decoded for nothing."""
        if self._waiting >= self._max_queue:
            raise self._full()

    def integrity(self) -> Future[IntegrityReport]:
        """Return to the base and hash every resident tensor against its start."""
        future: Future[IntegrityReport] = Future()
        with self._wake:
            if self._stopping:
                raise Unavailable("the server is shutting down. Cure: try again shortly", retry_after_s=5)
            self._chores.append((self._check_integrity, future))
            self._wake.notify_all()
        return future

    def _full(self) -> QueueFull:
        seconds = max(1, min(60, round(self._waiting * self._seconds_per_image)))
        return QueueFull(
            f"found {self._waiting} images waiting, expected room for at most {self._max_queue}. "
            f"Cure: try again in {seconds} s",
            retry_after_s=seconds,
        )

    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._queues or self._chores or self._stopping):
                    self._wake.wait()
                chore = self._chores.popleft() if self._chores else None
                batch = self._take_batch() if self._queues and chore is None else []
                if chore is None and not batch and self._stopping and not self._queues:
                    return
            if chore is not None:
                self._do_chore(*chore)
            elif batch:
                self._answer(batch)

    def _take_batch(self) -> list[_Item]:
        """Up to `max_batch` images of equal shape for the adapter whose oldest image waits longest."""
        digest = min(self._queues, key=lambda key: self._queues[key][0].accepted_at)
        queue = self._queues[digest]
        shape = queue[0].image.shape
        batch: list[_Item] = []
        while queue and len(batch) < self._max_batch and queue[0].image.shape == shape:
            batch.append(queue.popleft())
        if not queue:
            del self._queues[digest]
        self._waiting -= len(batch)
        return [item for item in batch if item.future.set_running_or_notify_cancel()]

    def _answer(self, batch: list[_Item]) -> None:
        started = time.perf_counter()
        adapter = batch[0].adapter
        try:
            swap_s = self._switch(adapter)
            scores, forward_s = self._forward(adapter, batch)
        except SwapError as error:
            self._fail(batch, Unavailable(f"{error}. Cure: try again", code="swap_failed", retry_after_s=1))
            return
        except Exception as error:  # the loop's boundary: the engine must outlive any batch
            log.exception("forward failed", adapter=adapter.manifest.name, batch_size=len(batch))
            self._fail(
                batch,
                Unavailable(
                    f"the forward pass failed ({type(error).__name__}). Cure: try again, with smaller batches",
                    code="forward_failed",
                    retry_after_s=1,
                ),
            )
            return
        self._metrics.batch_size.observe(len(batch))
        self._seconds_per_image += 0.1 * (forward_s / len(batch) - self._seconds_per_image)
        for item, row in zip(batch, scores, strict=True):
            queue_s = started - item.accepted_at
            self._metrics.queue_seconds.observe(queue_s)
            if torch.isfinite(row).all():
                item.future.set_result(Answer(row, queue_s, swap_s, forward_s, len(batch)))
            else:
                item.future.set_exception(
                    Unavailable(
                        f"{adapter.manifest.name}: the scores for this image are not finite. "
                        "Cure: check the adapter, or serve in float32",
                        code="output_not_finite",
                    )
                )

    def _switch(self, adapter: Adapter) -> float:
        started = time.perf_counter()
        if not self._swapper.mount(adapter):
            return 0.0
        seconds = time.perf_counter() - started
        self._metrics.switches.labels("memory", "merged").inc()
        self._metrics.switch_seconds.observe(seconds)
        return seconds

    def _forward(self, adapter: Adapter, batch: list[_Item]) -> tuple[Tensor, float]:
        started = time.perf_counter()
        images = torch.stack([item.image for item in batch])  # [N, 3, height, width]
        scores = adapter.image_scores(self.backbone, images).cpu()  # [N, classes]
        return scores, time.perf_counter() - started

    def _check_integrity(self) -> IntegrityReport:
        started = time.perf_counter()
        self._swapper.unmount()
        changed = tuple(self.backbone.changed())
        if changed:
            self._metrics.restore_mismatch.inc(len(changed))
            log.error("integrity violated", tensors=changed[:10], count=len(changed))
        return IntegrityReport(len(self.backbone.tensors), changed, time.perf_counter() - started)

    def _do_chore(self, chore: Callable[[], IntegrityReport], future: Future[IntegrityReport]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(chore())
        except Exception as error:  # the loop's boundary, as above
            log.exception("integrity check failed")
            future.set_exception(error)

    @staticmethod
    def _fail(batch: list[_Item], error: Exception) -> None:
        for item in batch:
            item.future.set_exception(error)
