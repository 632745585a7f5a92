"""From a folder to a live adapter, without I/O: how far it is, in one form, and the result."""

from __future__ import annotations

import math
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

from lensmount_client._errors import InvalidInput
from lensmount_client._files.paths import refuse_url
from lensmount_client._reference import checked_name
from lensmount_client._resources.job import JobView
from lensmount_client._show.job_board import NO_WORKER_SEEN, WORKERS_BUSY, share_of
from lensmount_client._types.datasets import Dataset
from lensmount_client._types.ended import NotPublished
from lensmount_client._types.jobs import JobEpoch, JobEvent, JobInfo, JobLog, JobProgress, JobReport, JobState
from lensmount_client._types.progress import Report
from lensmount_client._types.taught import Taught, TeachProgress, TeachReport


def checked_task(path: str | Path, name: str) -> None:
    """Raise InvalidInput for a name or folder that cannot be used, before anything is sent."""
    checked_name(name)
    refuse_url(path, "a folder on this machine")
    if not Path(path).exists():
        raise InvalidInput(f"{path}: found no such file or folder, expected one folder of images per class")


class Teaching:
    """What `datasets.push` and `job.wait` report, as TeachProgress. `progress` is as for `Client.teach`.

    `upload` and `training` are what those two take as `progress`: True lets each draw its own bar.
    """

    def __init__(self, progress: bool | TeachReport) -> None:
        self._report = progress if callable(progress) else None
        self.upload: bool | Report = self._uploaded if self._report else bool(progress)
        self.training: bool | JobReport = self._happened if self._report else bool(progress)
        self._silent = progress is False
        self._last = TeachProgress("", 0.0, "")

    def submitted(self, info: JobInfo) -> None:
        """Say if no worker can take the job: it waits until one is started."""
        if info.workers != 0:
            self._tell("queued", 0.0, WORKERS_BUSY)
        elif self._silent:
            warnings.warn(f"job {info.id}: {NO_WORKER_SEEN}", UserWarning, stacklevel=3)
        else:
            self._tell("queued", 0.0, NO_WORKER_SEEN)

    def _uploaded(self, done: int, total: int | None) -> None:
        if total is None:
            self._tell("upload", 0.0, "packing the images")
        else:
            word = "sending the images" if done < total else "the server checks the images"
            self._tell("upload", done / total if total else 1.0, word)

    def _happened(self, event: JobEvent) -> None:
        if isinstance(event, JobProgress):
            left = "" if event.seconds_left is None else f", {timedelta(seconds=round(event.seconds_left))} left"
            epoch = f" epoch {event.epoch} of {event.epochs}" if event.trains and event.epochs else ""
            phase = event.phase or "training"
            self._tell(
                phase,
                share_of(event) or (0.0 if event.trains else 1.0),
                f"{phase}{epoch}{left if event.trains else ''}",
            )
        elif isinstance(event, JobEpoch) and event.validation_balanced_accuracy is not None:
            self._tell(
                "training", self._last.share, f"epoch {event.epoch}: {event.validation_balanced_accuracy:.1%} right"
            )
        elif isinstance(event, JobState) and event.state == "running":
            self._tell("starting", 0.0, f"a worker has taken the job, attempt {event.attempt}")
        elif isinstance(event, JobLog) and event.level in ("warning", "error"):
            self._tell("training", self._last.share, f"{event.level}: {event.message}")

    def _tell(self, step: str, share: float, message: str) -> None:
        told = TeachProgress(step, share, message)
        if self._report is not None and told != self._last:
            self._report(told)
        self._last = told


def taught(dataset: Dataset, job: JobView) -> Taught:
    """The result of a job that succeeded. Raises NotPublished if its gate refused the adapter."""
    info, result = job.info, job.result
    if result is None or result.adapter is None:
        reason = result.gate.reason if result and result.gate else "the server gives no reason"
        raise NotPublished(
            f"job {info.id} trained {info.adapter} and did not publish it: {reason}. Fix: more or better images, or "
            "force=True; `client.jobs.get(ID).download('adapter.safetensors')` has the file",
            info,
        )
    test: Any = result.metrics.get("test") or {}
    accuracy, count = test.get("balanced_accuracy"), test.get("count")
    return Taught(
        adapter=result.adapter,
        dataset=info.dataset,
        job_id=info.id,
        labels=tuple(sorted(dataset.classes)),
        images=dataset.images,
        tested=count if isinstance(count, int) else 0,
        balanced_accuracy=accuracy if isinstance(accuracy, float) else math.nan,
        seconds=result.seconds or 0.0,
        warnings=tuple(warning.message for warning in dataset.report.warnings),
    )
