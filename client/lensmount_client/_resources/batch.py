"""`client.batch("cells/", "malaria", "results.parquet")`: label an archive behind all requests, resumed after a kill.

A folder is sent a few images at a time. What is done is in a journal next to the output, so a run that was killed
resumes: no image is asked twice, and none is left out.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from lensmount_client._api.adapters import get_adapter, get_version
from lensmount_client._api.predict import predict_low
from lensmount_client._errors import (
    AliasNotFound,
    BatchTooLarge,
    Busy,
    DeadlineExceeded,
    ForwardFailed,
    LensmountError,
    OutOfMemory,
    OutputNotFinite,
    ProblemError,
    RequestTimeout,
    ServerUnreachable,
    TimedOut,
    Unavailable,
    Unusable,
    VersionNotFound,
)
from lensmount_client._files.batch_journal import BatchJournal
from lensmount_client._files.batch_output import check_output, write_rows
from lensmount_client._files.batch_source import BatchSource, LocalFiles
from lensmount_client._http.call import Call
from lensmount_client._http.concurrency import abounded_map, bounded_map
from lensmount_client._http.operation import AsyncSendCall, Operation, SendCall, arun_operation, run_operation
from lensmount_client._problem import Problem
from lensmount_client._reference import Reference
from lensmount_client._resources.batch_dataset import alabel_dataset, dataset_of, label_dataset
from lensmount_client._resources.evaluation import OF_THE_IMAGE
from lensmount_client._resources.jobs import AsyncJobs, Jobs
from lensmount_client._resources.many import adapter_list
from lensmount_client._show.progress import reporting
from lensmount_client._types.batch import BATCH_COLUMNS, BatchResult
from lensmount_client._types.datasets import Dataset
from lensmount_client._types.predictions import Prediction
from lensmount_client._types.progress import Report
from lensmount_client._types.results import AdapterId

AT_ONCE = 16  # images of one request: what the server computes in one batch
AT_ONCE_BYTES = 16 * 2**20
CONCURRENCY = 3  # requests: one is computed, the next is decoded, and a third is read
TIMEOUT_S = 600.0  # of the server for one request, because others go first
PATIENCE_S = 600.0  # without an answer to a request, after which a run gives up; the next run resumes
RETRY_S = 2.0  # from one attempt to the next, if the server asks for no other time
RETRIED = (Busy, DeadlineExceeded, RequestTimeout, ServerUnreachable, TimedOut, Unavailable)
SPLIT = (*OF_THE_IMAGE, BatchTooLarge, ForwardFailed, OutOfMemory, OutputNotFinite)
"""Errors for which the images of a request are asked one by one; of one image alone, they are its result."""

Chunk: TypeAlias = "list[tuple[str, bytes | LensmountError]]"
Answered: TypeAlias = "list[tuple[str, list[dict[str, Any]]]]"
Steps: TypeAlias = "Generator[Call[list[list[Prediction]]] | float, Any, Answered]"


class Batch:
    """`client.batch("cells/", "malaria", "results.parquet", progress=True)`."""

    def __init__(self, send: SendCall, sleep: Callable[[float], object], jobs: Jobs) -> None:
        self._send = send
        self._jobs = jobs
        self._sleep = sleep

    def __call__(
        self,
        source: str | Path | Sequence[str | Path] | Dataset | BatchSource,
        adapter: str | Sequence[str],
        out: str | Path,
        *,
        progress: bool | Report = False,
    ) -> BatchResult:
        """Label each image of `source` with each adapter, and write the rows to `out`: .parquet, .csv or .jsonl.

        `source` is a folder, a pattern, a list of them and of files, an object with `names()` and `read(name)`, or a
        dataset on the server: `name`, `name@2`, unless a folder has this name, or what `datasets.push` returned. The
        versions that the adapters stand for at the start answer all images. An image that cannot be read has rows with
        an `error`. The server computes these images while nobody else asks, and of images that it knows only the layers
        that an adapter changes. A call that was killed and is repeated resumes. `progress` is as for
        `predict_many`. Raises InvalidInput for wrong use, CannotWrite, AdapterNotFound, and the error of a server that
        has no answer for 10 minutes.
        """
        if (dataset := dataset_of(source)) is not None:
            return label_dataset(self._jobs, dataset, adapter_list(adapter), Path(out), progress)
        with _Run.of(source, adapter, out) as run, reporting(progress, run.total) as report:
            run.begin(lambda resolving: run_operation(resolving, self._send))
            answers = bounded_map(self._answered(run), run.chunks(), concurrency=CONCURRENCY, ordered=True)
            with closing(answers):
                for answered in answers:
                    report(run.add(answered), run.total)
            return run.finished()

    def _answered(self, run: _Run) -> Callable[[Chunk], Answered]:
        def answered(chunk: Chunk) -> Answered:
            steps = run.steps(chunk)
            try:
                step = next(steps)
                while True:
                    if isinstance(step, float):
                        self._sleep(step)
                        step = next(steps)
                        continue
                    try:
                        result = self._send(step)
                    except LensmountError as error:
                        step = steps.throw(error)
                    else:
                        step = steps.send(result)
            except StopIteration as stop:
                found: Answered = stop.value
                return found

        return answered


class AsyncBatch:
    """Like `Batch`, for AsyncClient: `await client.batch("cells/", "malaria", "results.parquet")`."""

    def __init__(self, send: AsyncSendCall, sleep: Callable[[float], Awaitable[object]], jobs: AsyncJobs) -> None:
        self._send = send
        self._jobs = jobs
        self._sleep = sleep

    async def __call__(
        self,
        source: str | Path | Sequence[str | Path] | Dataset | BatchSource,
        adapter: str | Sequence[str],
        out: str | Path,
        *,
        progress: bool | Report = False,
    ) -> BatchResult:
        """See `Client.batch`."""
        if (dataset := dataset_of(source)) is not None:
            return await alabel_dataset(self._jobs, dataset, adapter_list(adapter), Path(out), progress)
        with _Run.of(source, adapter, out) as run, reporting(progress, run.total) as report:
            await run.abegin(lambda resolving: arun_operation(resolving, self._send))
            answers = abounded_map(self._answered(run), run.chunks(), concurrency=CONCURRENCY, ordered=True)
            async with aclosing(answers):
                async for answered in answers:
                    report(run.add(answered), run.total)
            return run.finished()

    def _answered(self, run: _Run) -> Callable[[Chunk], Awaitable[Answered]]:
        async def answered(chunk: Chunk) -> Answered:
            steps = run.steps(chunk)
            try:
                step = next(steps)
                while True:
                    if isinstance(step, float):
                        await self._sleep(step)
                        step = next(steps)
                        continue
                    try:
                        result = await self._send(step)
                    except LensmountError as error:
                        step = steps.throw(error)
                    else:
                        step = steps.send(result)
            except StopIteration as stop:
                found: Answered = stop.value
                return found

        return answered


@dataclass
class _Run:
    """One run, without I/O to the server: what to ask, and what is done."""

    source: BatchSource
    asked: list[str]
    out: Path
    journal: BatchJournal
    total: int
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def of(
        cls,
        source: str | Path | Sequence[str | Path] | Dataset | BatchSource,
        adapter: str | Sequence[str],
        out: str | Path,
    ) -> _Run:
        asked, path = adapter_list(adapter), Path(out)
        check_output(path)
        places = [source] if isinstance(source, str | Path) else source
        assert isinstance(places, Sequence | BatchSource)  # a dataset is labelled by a job
        images = LocalFiles(places) if isinstance(places, Sequence) else places
        total = sum(1 for _ in images.names())
        return cls(images, asked, path, BatchJournal(path, asked), total)

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.journal.close()

    def begin(self, resolve: Callable[[Operation[AdapterId]], AdapterId]) -> None:
        """Note which versions answer, unless an earlier run did."""
        if self.journal.adapters is None:
            self.journal.begin([resolve(_version_of(Reference.parse(text))) for text in self.asked])

    async def abegin(self, resolve: Callable[[Operation[AdapterId]], Awaitable[AdapterId]]) -> None:
        if self.journal.adapters is None:
            self.journal.begin([await resolve(_version_of(Reference.parse(text))) for text in self.asked])

    def chunks(self) -> Iterator[Chunk]:
        """What is not done yet, read a few images ahead."""
        chunk: Chunk = []
        size = 0
        for name in self.source.names():
            if name in self.journal:
                continue
            try:
                data: bytes | LensmountError = self.source.read(name)
            except LensmountError as error:
                data = error
            more = len(data) if isinstance(data, bytes) else 0
            if chunk and (len(chunk) == AT_ONCE or size + more > AT_ONCE_BYTES):
                yield chunk
                chunk, size = [], 0
            chunk.append((name, data))
            size += more
        if chunk:
            yield chunk

    def steps(self, chunk: Chunk) -> Steps:
        """Calls to send and seconds to wait; returns the rows of each image."""
        good = [(name, data) for name, data in chunk if isinstance(data, bytes)]
        rows = {name: self._failed(name, data) for name, data in chunk if isinstance(data, LensmountError)}
        rows |= dict((yield from self._asked_for(good)) if good else [])
        return [(name, rows[name]) for name, _ in chunk]

    def add(self, answered: Answered) -> int:
        for name, rows in answered:
            self.journal.add(name, rows)
        return len(self.journal)

    def finished(self) -> BatchResult:
        """Write the output, and remove the journal."""
        journal = self.journal
        rows = write_rows(self.out, journal.rows())
        journal.remove()
        return BatchResult(self.out, len(journal), rows, journal.failed, journal.resumed, journal.adapters or ())

    def _asked_for(self, images: list[tuple[str, bytes]]) -> Steps:
        until = self.clock() + PATIENCE_S
        while True:
            try:
                told = yield predict_low(images, self._references(), TIMEOUT_S)
            except SPLIT as error:
                if len(images) == 1:
                    return [(images[0][0], self._failed(images[0][0], error))]
                found: Answered = []
                for image in images:
                    found += yield from self._asked_for([image])
                return found
            except RETRIED as error:
                wait_s = error.retry_after_s if isinstance(error, ProblemError) else None
                if isinstance(error, Unusable) or self.clock() > until:
                    raise
                yield float(wait_s or RETRY_S)
            else:
                return [(name, self._rows(name, each)) for (name, _), each in zip(images, told, strict=True)]

    def _references(self) -> list[str]:
        return [f"{each.name}@{each.digest}" for each in self.journal.adapters or ()]

    def _rows(self, name: str, predictions: list[Prediction]) -> list[dict[str, Any]]:
        return [row_of(name, asked, each) for asked, each in zip(self.asked, predictions, strict=True)]

    def _failed(self, name: str, error: LensmountError) -> list[dict[str, Any]]:
        empty = dict.fromkeys(BATCH_COLUMNS)
        return [
            {**empty, "file": name, "adapter": asked, "error": error.code, "detail": error.detail}
            | {"version": each.version, "digest": each.digest}
            for asked, each in zip(self.asked, self.journal.adapters or (), strict=True)
        ]


def row_of(name: str, adapter: str, prediction: Prediction) -> dict[str, Any]:
    """One image and one adapter, with the columns BATCH_COLUMNS."""
    record, trust, error = prediction.to_record(), prediction.trust, prediction.error
    more = {
        "file": name,
        "adapter": adapter,
        "confidence": None if trust is None else trust.confidence,
        "detail": None if error is None else error.detail,
    }
    scores = None if error is not None else record["scores"]
    return {column: ({**record, **more, "scores": scores})[column] for column in BATCH_COLUMNS}


def _version_of(reference: Reference) -> Operation[AdapterId]:
    """The version that a reference stands for now; of an alias with a rollout, the stable one."""
    info = yield get_adapter(reference.name)
    number = reference.version
    if reference.alias is not None and (number := info.aliases.get(reference.alias)) is None:
        detail = f"{reference.name} has no alias {reference.alias}. Fix: `lensmount adapters list` shows the aliases"
        raise AliasNotFound(Problem(404, "alias_not_found", "Not Found", detail))
    if reference.digest in (None, info.digest) and number in (None, info.version):
        return AdapterId(info.name, info.version, info.digest)
    for candidate in [number] if number else reversed(info.versions):
        version = yield get_version(reference.name, candidate)
        if reference.digest in (None, version.digest):
            return AdapterId(version.name, version.version, version.digest)
    detail = f"{reference.name} has no version with this digest. Fix: `lensmount adapters list` shows the versions"
    raise VersionNotFound(Problem(404, "version_not_found", "Not Found", detail))
