"""What the server knows of a job, and the events of a running one: frozen dataclasses, and how they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

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
