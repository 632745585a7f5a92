"""`client.batch("cells@2", ...)` with a dataset on the server: a job labels it, and its rows are fetched at the end.

The id of the job is in a small file next to the output. So a program that was killed finds the job again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lensmount_client._errors import CannotWrite, InvalidInput
from lensmount_client._files.batch_output import check_output, write_rows
from lensmount_client._files.paths import is_file, is_folder
from lensmount_client._reference import READABLE_NAME
from lensmount_client._resources.job import AsyncJob, Job, JobView
from lensmount_client._resources.jobs import RESULTS, AsyncJobs, Jobs
from lensmount_client._show.progress import reporting
from lensmount_client._types.batch import BatchResult
from lensmount_client._types.datasets import Dataset
from lensmount_client._types.jobs import JobProgress
from lensmount_client._types.progress import Report
from lensmount_client._types.results import AdapterId

J = TypeVar("J", Job, AsyncJob)


def dataset_of(source: Any) -> str | None:
    """The reference of a dataset on the server; None for what is on this machine."""
    if isinstance(source, Dataset):
        return source.reference
    if isinstance(source, list | tuple) and len(source) == 1:
        source = source[0]
    if not isinstance(source, str) or is_folder(source) or is_file(source):
        return None
    name, _, version = source.partition("@")
    is_reference = READABLE_NAME.fullmatch(name) and re.fullmatch(r"([1-9][0-9]{0,8})?", version)
    return source if is_reference else None


def label_dataset(jobs: Jobs, dataset: str, asked: Sequence[str], out: Path, progress: bool | Report) -> BatchResult:
    note = _Note(out, dataset, asked)
    job = jobs.get(note.job) if note.job else note.made(jobs.predict(dataset, asked))
    if job.state in ("failed", "cancelled"):
        job = job.retry()
    with reporting(progress, None) as report, closing(job.events()) as events:
        for event in events:
            if isinstance(event, JobProgress):
                report(event.step or 0, event.steps)
    job.wait()
    job.download(RESULTS, note.fetched)
    return note.finished(job)


async def alabel_dataset(
    jobs: AsyncJobs, dataset: str, asked: Sequence[str], out: Path, progress: bool | Report
) -> BatchResult:
    note = _Note(out, dataset, asked)
    job = await jobs.get(note.job) if note.job else note.made(await jobs.predict(dataset, asked))
    if job.state in ("failed", "cancelled"):
        job = await job.retry()
    with reporting(progress, None) as report:
        async with aclosing(job.events()) as events:
            async for event in events:
                if isinstance(event, JobProgress):
                    report(event.step or 0, event.steps)
    await job.wait()
    await job.download(RESULTS, note.fetched)
    return note.finished(job)


@dataclass
class _Note:
    """Which job labels the dataset for this output."""

    out: Path
    dataset: str
    asked: Sequence[str]

    def __post_init__(self) -> None:
        check_output(self.out)
        self.path = self.out.with_name(f"{self.out.name}.partial")
        self.fetched = self.out.with_name(f"{self.out.name}.rows")
        self.job = ""
        if not self.path.exists():
            if self.out.exists():
                raise InvalidInput(f"{self.out}: found a file there. Fix: choose another name, or remove the file")
            return
        try:
            told = json.loads(self.path.read_text(encoding="utf-8"))
            found, self.job = (told["dataset"], told["asked"]), str(told["job"])
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(
                f"{self.path}: not the note of a job that labels a dataset. Fix: remove it, or choose another output"
            ) from error
        if found != (self.dataset, list(self.asked)):
            raise InvalidInput(
                f"{self.path}: found another run that was not finished. Fix: repeat its command, or remove this file"
            )

    def made(self, job: J) -> J:
        told = {"dataset": self.dataset, "asked": list(self.asked), "job": job.id}
        try:
            self.path.write_text(json.dumps(told) + "\n", encoding="utf-8")
        except OSError as error:
            raise CannotWrite(f"{self.path}: cannot be written ({error.strerror})") from error
        return job

    def finished(self, job: JobView) -> BatchResult:
        rows = write_rows(self.out, self._rows())
        self.fetched.unlink()
        self.path.unlink()
        told = job.info.result
        chosen = job.info.hyper_parameters.get("adapters", [])
        versions = tuple(AdapterId(each["name"], each["version"], each["digest"]) for each in chosen)
        images, failed = (told.images, told.failed) if told is not None else (None, None)
        return BatchResult(self.out, images or 0, rows, failed or 0, 0, versions)

    def _rows(self) -> Iterator[dict[str, Any]]:
        with self.fetched.open(encoding="utf-8") as file:
            yield from map(json.loads, file)
