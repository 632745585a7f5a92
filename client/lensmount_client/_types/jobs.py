"""What the server knows of a job, and the events of a running one: frozen dataclasses, and how they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from lensmount_client._http.json_fields import Document
from lensmount_client._types.results import AdapterId

ENDED = ("succeeded", "failed", "cancelled")
STATES = ("queued", "running", *ENDED)
TRAINING = ("searching", "caching", "training")  # phases with epochs and steps
AFTER_TRAINING = ("judging", "reporting", "publishing")
PHASES = (*TRAINING, *AFTER_TRAINING)  # of a running job, in order; a newer server may have others


@dataclass(frozen=True)
class JobError:
    """Why the last attempt failed."""

    code: str
    message: str


@dataclass(frozen=True)
class JobState:
    """Event: the job came into this state."""

    state: str  # queued, running, succeeded, failed or cancelled
    attempt: int
    at: datetime
    error: JobError | None = None


@dataclass(frozen=True)
class JobEpoch:
    """Event: one pass over the training images is done. Accuracies lie in [0, 1]."""

    epoch: int  # 1, 2, ...
    loss: float | None
    accuracy: float | None
    validation_loss: float | None
    validation_balanced_accuracy: float | None
    seconds: float | None


@dataclass(frozen=True)
class JobProgress:
    """Event, about once a second: where the training stands. Only the latest is kept by the server."""

    epoch: int | None
    epochs: int | None
    step: int | None
    steps: int | None  # of one epoch
    loss: float | None
    accuracy: float | None
    seconds_left: float | None
    phase: str | None  # one of PHASES, or another of a newer server

    @property
    def trains(self) -> bool:
        """Whether epochs and steps go on: they are those of the last step in every later phase."""
        return self.phase is None or self.phase in TRAINING


@dataclass(frozen=True)
class JobLog:
    """Event: a line of the job's log."""

    level: str
    message: str
    at: datetime


@dataclass(frozen=True)
class JobEnd:
    """Event, the last one."""

    state: str


JobEvent: TypeAlias = JobState | JobEpoch | JobProgress | JobLog | JobEnd
JobReport: TypeAlias = Callable[[JobEvent], object]


@dataclass(frozen=True)
class DatasetId:
    """Which dataset, exactly."""

    name: str
    version: int
    digest: str


@dataclass(frozen=True)
class Replaced:
    """The adapter that a new one was measured against, on the new one's test part."""

    adapter: AdapterId
    balanced_accuracy: float | None


@dataclass(frozen=True)
class Gate:
    """Whether a trained adapter may be published: not if it is worse than the one it replaces by over `margin`."""

    passed: bool
    reason: str
    margin: float
    forced: bool
    balanced_accuracy: float | None
    replaced: Replaced | None


@dataclass(frozen=True)
class JobResult:
    """What came out. `adapter` is None where the gate refused; the file is then among the job's files alone."""

    published: bool
    adapter: AdapterId | None
    gate: Gate | None
    digest: str | None  # of adapter.safetensors
    size_bytes: int | None
    seconds: float | None
    metrics: Mapping[str, Any]  # {"validation": {...}, "test": {...}}
    files: tuple[str, ...]


@dataclass(frozen=True)
class JobFile:
    """One file that a job left."""

    name: str
    size_bytes: int
    digest: str


@dataclass(frozen=True)
class JobInfo:
    """One job as the server described it last."""

    id: str
    state: str  # queued, running, succeeded, failed or cancelled
    dataset: DatasetId
    adapter: str
    alias: str | None
    hyper_parameters: Mapping[str, Any]
    priority: int
    attempt: int
    max_attempts: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested: bool
    progress: JobProgress | None
    history: tuple[JobEpoch, ...]
    result: JobResult | None
    error: JobError | None
    raw: Mapping[str, Any] = field(repr=False)  # the document of the HTTP API
    workers: int | None = None  # that could take it, while it waits; None where the server does not say

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def published(self) -> bool:
        return self.result is not None and self.result.published


def job_of(document: Document) -> JobInfo:
    """Raises UnexpectedResponse."""
    progress, result = document.child_or_none("progress"), document.child_or_none("result")
    return JobInfo(
        id=document.text("id"),
        state=document.text("state"),
        dataset=_dataset_id(document.child("dataset")),
        adapter=document.text("adapter"),
        alias=document.text_or_none("alias"),
        hyper_parameters=document.child("hyper_parameters").value,
        priority=document.integer("priority"),
        attempt=document.integer("attempt"),
        max_attempts=document.integer("max_attempts"),
        created_at=document.time("created_at"),
        started_at=document.time_or_none("started_at"),
        finished_at=document.time_or_none("finished_at"),
        cancel_requested=document.truth("cancel_requested"),
        progress=_progress(progress) if progress else None,
        history=tuple(map(_epoch, document.children("history"))),
        result=_result(result) if result else None,
        error=_error(document),
        raw=document.value,
        workers=document.integer_or_none("workers"),
    )


def event_of(kind: str, document: Document) -> JobEvent | None:
    """None for a kind of event that a newer server has. Raises UnexpectedResponse."""
    reader = EVENTS.get(kind)
    return reader(document) if reader else None


def file_of(document: Document) -> JobFile:
    return JobFile(document.text("name"), document.integer("size_bytes"), document.text("digest"))


def _state(document: Document) -> JobState:
    return JobState(document.text("state"), document.integer("attempt"), document.time("at"), _error(document))


def _epoch(document: Document) -> JobEpoch:
    return JobEpoch(
        epoch=document.integer("epoch"),
        loss=document.number_or_none("loss"),
        accuracy=document.number_or_none("accuracy"),
        validation_loss=document.number_or_none("validation_loss"),
        validation_balanced_accuracy=document.number_or_none("validation_balanced_accuracy"),
        seconds=document.number_or_none("seconds"),
    )


def _progress(document: Document) -> JobProgress:
    return JobProgress(
        epoch=document.integer_or_none("epoch"),
        epochs=document.integer_or_none("epochs"),
        step=document.integer_or_none("step"),
        steps=document.integer_or_none("steps"),
        loss=document.number_or_none("loss"),
        accuracy=document.number_or_none("accuracy"),
        seconds_left=document.number_or_none("seconds_left"),
        phase=document.text_or_none("phase"),
    )


def _log(document: Document) -> JobLog:
    return JobLog(document.text("level"), document.text("message"), document.time("at"))


def _end(document: Document) -> JobEnd:
    return JobEnd(document.text("state"))


EVENTS: Mapping[str, Callable[[Document], JobEvent]] = {
    "state": _state,
    "epoch": _epoch,
    "progress": _progress,
    "log": _log,
    "end": _end,
}


def _error(document: Document) -> JobError | None:
    error = document.child_or_none("error")
    return JobError(error.text("code"), error.text("message")) if error else None


def _result(document: Document) -> JobResult:
    adapter, gate = document.child_or_none("adapter"), document.child_or_none("gate")
    metrics = document.child_or_none("metrics")
    return JobResult(
        published=document.truth("published"),
        adapter=_adapter_id(adapter) if adapter else None,
        gate=_gate(gate) if gate else None,
        digest=document.text_or_none("digest"),
        size_bytes=document.integer_or_none("size_bytes"),
        seconds=document.number_or_none("seconds"),
        metrics=metrics.value if metrics else {},
        files=document.texts("files") if "files" in document.value else (),
    )


def _gate(document: Document) -> Gate:
    replaced = document.child_or_none("replaced")
    return Gate(
        passed=document.truth("passed"),
        reason=document.text("reason"),
        margin=document.number("margin"),
        forced=document.truth("forced"),
        balanced_accuracy=document.number_or_none("balanced_accuracy"),
        replaced=Replaced(_adapter_id(replaced), replaced.number_or_none("balanced_accuracy")) if replaced else None,
    )


def _adapter_id(document: Document) -> AdapterId:
    return AdapterId(document.text("name"), document.integer("version"), document.text("digest"))


def _dataset_id(document: Document) -> DatasetId:
    return DatasetId(document.text("name"), document.integer("version"), document.text("digest"))
