"""Jobs that label a dataset: the server works on them one after the other, while nobody else asks.

The rows of each image go into a journal, in the order of the dataset, before the next ones. So an attempt that was
killed is continued by the next one with the image after the last row, and no image is labelled twice or left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import structlog

from lensmount_adapters.data.dataset_archive import MANIFEST
from lensmount_adapters.errors import LensmountError
from lensmount_service.access.identity import Identity
from lensmount_service.errors import JobConflict, NotFound, QueueFull, QuotaExceeded, ServiceError
from lensmount_service.jobs.records import Lease
from lensmount_service.routes.archives.answers import ArchiveAnswers, SourceImage
from lensmount_service.routes.archives.request import Asked, adapters_of
from lensmount_service.routes.archives.rows import rows_of
from lensmount_service.routes.context import AppContext, TenantContext
from lensmount_service.routes.outcomes import Results, Wanted
from lensmount_service.routes.predict import Predictor
from lensmount_service.store.catalog import Snapshot
from lensmount_service.web.negotiation import JSON

log = structlog.get_logger(__name__)
T = TypeVar("T")

RESULTS = "results.jsonl"
AHEAD = 6  # chunks in work; with 3, the engine waited for a third of the time
RETRY_S = 0.2  # while there is no room in the queue
MOST_BEAT_S = 5.0
TRY_AGAIN_S = 2.0  # before another attempt


class Cancelled(Exception):
    """The client no longer wants this job."""


@dataclass
class Attempt:
    """What is known of the job that is worked on. `progress` is that of a training with one epoch."""

    lease: Lease
    total: int = 0
    done: int = 0
    cancelled: bool = False
    lost: bool = False
    stop: asyncio.Event = field(default_factory=asyncio.Event)  # set with one of the two above
    started: float = field(default_factory=time.monotonic)
    resumed: int = 0

    @property
    def progress(self) -> dict[str, Any]:
        now = self.done - self.resumed
        left = (time.monotonic() - self.started) / now * (self.total - self.done) if now else None
        steps = {"epoch": 1, "epochs": 1, "step": self.done, "steps": self.total}
        measured = {"loss": None, "accuracy": None}
        return {**steps, **measured, "seconds_left": None if left is None else round(left, 1), "phase": "predicting"}

    def check(self) -> None:
        if self.lost:
            raise JobConflict("another server holds the job", code="lease_lost")
        if self.cancelled:
            raise Cancelled


class PredictJobs:
    """`async with PredictJobs(app, predictor).running(): ...`."""

    def __init__(self, app: AppContext, predictor: Predictor) -> None:
        self._app = app
        self._predictor = predictor
        self._answers = ArchiveAnswers(app)
        self._jobs, self._files = app.training.jobs, app.training.files
        self._at_once = max(1, min(app.settings.max_batch, app.settings.max_queue // 16))
        self._name = f"{socket.gethostname()}:{os.getpid()}:server"

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work on jobs meanwhile. A job that is worked on at the end is given back."""
        working = asyncio.create_task(self._run())
        try:
            yield
        finally:
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await working

    async def _run(self) -> None:
        while not self._app.training.stopping.is_set():
            self._app.predictable.clear()
            lease = await self._claimed()
            if lease is None:
                await self._app.predictable.wait()
                continue
            try:
                await self._work(lease)
            except asyncio.CancelledError:
                with contextlib.suppress(ServiceError):
                    self._jobs.give_back(lease)
                raise

    async def _claimed(self) -> Lease | None:
        try:
            return await asyncio.to_thread(
                self._jobs.claim, self._name, self._app.engine.backbone.fingerprint, "predict"
            )
        except ServiceError as error:
            log.warning("no job claimed", reason=str(error))
            return None

    async def _work(self, lease: Lease) -> None:
        """Do the job and store how it ended; what cannot be stored is left to the lease."""
        attempt = Attempt(lease)
        beating = asyncio.create_task(self._beat(attempt))
        log.info("job claimed", job=lease.id, attempt=lease.job.attempt, kind="predict")
        try:
            end = await self._ended(attempt)
            await asyncio.to_thread(end)
        except ServiceError as error:
            log.warning("job left to its lease", job=lease.id, reason=str(error))
        finally:
            beating.cancel()

    async def _ended(self, attempt: Attempt) -> Callable[[], None]:
        """How to store the end of the job."""
        lease = attempt.lease
        try:
            outcome = await self._label(attempt)
        except Cancelled:
            return lambda: self._jobs.finish(lease, "cancelled")
        except (JobConflict, QueueFull):
            raise
        except (ServiceError, LensmountError) as error:
            told = error.code, str(error)
            log.warning("job failed", job=lease.id, code=error.code, reason=str(error))
            return lambda: self._jobs.finish(lease, "failed", None, told)
        except Exception as error:  # the loop's boundary: the server lives on
            log.error("attempt failed", job=lease.id, exc_info=error)
            why = "attempt_failed", f"{type(error).__name__}: {error}"
            return lambda: self._jobs.try_again(lease, why, TRY_AGAIN_S)
        drop = self._files.drop_checkpoint
        return lambda: self._jobs.finish(lease, "succeeded", outcome, also=lambda c: drop(c, lease.id))

    async def _label(self, attempt: Attempt) -> dict[str, Any]:
        lease = attempt.lease
        request = lease.job.request
        identity = Identity(
            request.owner or "jobs", f"jobs of {request.tenant}", frozenset({"predict"}), request.tenant
        )
        context = self._app.view(identity, request.dataset)
        adapters = adapters_of(request.hyper_parameters)
        snapshots = [await asyncio.to_thread(context.catalog.resolve, each.reference) for each in adapters]
        await self._predictor.prepare(snapshots)
        images = await asyncio.to_thread(_images, context, lease)
        journal = await asyncio.to_thread(self._files.journal, lease.id)
        attempt.total, attempt.done = len(images), await asyncio.to_thread(_lines, journal)
        attempt.resumed = attempt.done
        left = (images[first : first + self._at_once] for first in range(attempt.done, len(images), self._at_once))

        async def label(chunk: Sequence[SourceImage]) -> bytes:
            return await self._rows(context, chunk, snapshots, adapters)

        async with contextlib.aclosing(in_order(left, label, attempt.stop)) as labelled:
            async for rows in labelled:
                await asyncio.to_thread(self._files.append, lease.id, lease.token, rows)
                attempt.done += rows.count(b"\n")
        attempt.check()
        await asyncio.to_thread(self._files.put, lease.id, lease.token, RESULTS, _results(journal))
        return await asyncio.to_thread(_outcome, attempt, journal)

    async def _rows(
        self,
        context: TenantContext,
        images: Sequence[SourceImage],
        snapshots: list[Snapshot],
        adapters: Sequence[Asked],
    ) -> bytes:
        """The journal's lines for these images."""
        told = await admitted(lambda: self._answers.compute(context, images, snapshots))
        computed = await self._predictor.drawn(context, JSON, told, snapshots)
        counted = [context.counted(each.version.name, each) for each in snapshots]
        results = Results(self._app.engine.backbone, self._app.metrics, Wanted(""), "", 0.0).all(computed, counted)
        per_image = [results[first : first + len(adapters)] for first in range(0, len(results), len(adapters))]
        return b"".join(
            json.dumps({"rows": rows_of(image.name or "", of_image, adapters)}, allow_nan=False).encode() + b"\n"
            for image, of_image in zip(images, per_image, strict=True)
        )

    async def _beat(self, attempt: Attempt) -> None:
        """Renew the lease however long an image waits, and look whether the job is still wanted."""
        every_s = min(MOST_BEAT_S, self._jobs.lease_s / 6)
        while not attempt.lost:
            await asyncio.sleep(min(1.0, every_s))
            try:
                progress = attempt.progress if attempt.total else None
                attempt.cancelled |= await asyncio.to_thread(self._jobs.beat, attempt.lease, progress)
                if attempt.cancelled:
                    attempt.stop.set()
            except (JobConflict, NotFound):
                attempt.lost = True
                attempt.stop.set()
            except ServiceError as error:
                log.warning("heartbeat failed", job=attempt.lease.id, reason=str(error))


async def in_order(
    chunks: Iterator[list[SourceImage]],
    work: Callable[[Sequence[SourceImage]], Awaitable[bytes]],
    stop: asyncio.Event,
) -> AsyncGenerator[bytes, None]:
    """The results in order, of a few chunks at a time. It ends at once with `stop`, however long the next one waits."""
    stopping: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
    window: deque[asyncio.Future[Any]] = deque()
    try:
        while True:
            while len(window) < AHEAD and (chunk := next(chunks, None)) is not None:
                window.append(asyncio.ensure_future(work(chunk)))
            if not window:
                return
            await asyncio.wait([window[0], stopping], return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                return
            yield window.popleft().result()
    finally:
        for task in (*window, stopping):
            task.cancel()
        await asyncio.gather(*window, stopping, return_exceptions=True)


async def admitted(ask: Callable[[], Awaitable[T]]) -> T:
    """The result of `ask`, which is asked again while the queue is full."""
    while True:
        try:
            return await ask()
        except QuotaExceeded:
            raise
        except QueueFull:
            await asyncio.sleep(RETRY_S)


def _images(context: TenantContext, lease: Lease) -> list[SourceImage]:
    """The images of the dataset in the order of its manifest, which has their digests."""
    pin = lease.job.request.dataset
    store = context.training.datasets
    source = store.listed(store.get(pin.name, pin.version)).source
    rows = (json.loads(line) for line in source.read(MANIFEST).splitlines())
    return [SourceImage(row["path"], _Reading(source, row["path"]), row["sha256"]) for row in rows]


@dataclass(frozen=True, slots=True)
class _Reading:
    source: Any
    path: str

    def __call__(self) -> bytes:
        data: bytes = self.source.read(self.path)
        return data


def _lines(journal: Path) -> int:
    with journal.open("rb") as file:
        return sum(1 for _ in file)


def _results(journal: Path) -> Iterator[bytes]:
    """One line for each row."""
    with journal.open("rb") as file:
        for line in file:
            for row in json.loads(line)["rows"]:
                yield json.dumps(row).encode() + b"\n"


def _outcome(attempt: Attempt, journal: Path) -> dict[str, Any]:
    rows = failed = 0
    with journal.open("rb") as file:
        for line in file:
            found = json.loads(line)["rows"]
            rows += len(found)
            failed += any(row["error"] for row in found)
    nothing: dict[str, Any] = {
        "published": False,
        "adapter": None,
        "gate": None,
        "digest": None,
        "size_bytes": None,
        "metrics": {},
    }
    seconds = round(time.monotonic() - attempt.started, 3)
    return {**nothing, "seconds": seconds, "files": [RESULTS], "images": attempt.total, "rows": rows, "failed": failed}
