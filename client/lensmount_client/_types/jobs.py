"""What the server knows about a job, and the events of a running job, as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from lensmount_client._types.results import AdapterId

ENDED = ("succeeded", "failed", "cancelled")
STATES = ("queued", "running", *ENDED)
TRAINING = ("searching", "caching", "training", "calibrating")  # phases with epochs and steps
PREDICTING = "predicting"  # of a job that labels a dataset; its steps are images
AFTER_TRAINING = ("judging", "reporting", "publishing")
PHASES = (*TRAINING, *AFTER_TRAINING)  # of a running job, in order; a newer server may have others


@dataclass(frozen=True)
class JobError:
    """Why the last attempt failed."""

    code: str
    message: str


@dataclass(frozen=True)
class JobState:
    """Event: the job entered this state."""

    state: str  # queued, running, succeeded, failed or cancelled
    attempt: int
    at: datetime
    error: JobError | None = None


@dataclass(frozen=True)
class JobEpoch:
    """Event: one pass over the training images is complete. Accuracies are in [0, 1]."""

    epoch: int  # 1, 2, ...
    loss: float | None
    accuracy: float | None
    validation_loss: float | None
    validation_balanced_accuracy: float | None
    seconds: float | None


@dataclass(frozen=True)
class JobProgress:
    """Event, about once per second: the progress of the training. The server keeps only the latest."""

    epoch: int | None
    epochs: int | None
    step: int | None
    steps: int | None  # of one epoch
    loss: float | None
    accuracy: float | None
    seconds_left: float | None
    phase: str | None  # one of PHASES, or a phase that only a newer server has

    @property
    def trains(self) -> bool:
        """True while epochs and steps advance. In later phases they keep the values of the last step."""
        return self.phase in (None, PREDICTING, *TRAINING)


@dataclass(frozen=True)
class JobLog:
    """Event: a line of the job's log."""

    level: str
    message: str
    at: datetime


@dataclass(frozen=True)
class JobEnd:
    """The last event."""

    state: str


JobEvent: TypeAlias = JobState | JobEpoch | JobProgress | JobLog | JobEnd
JobReport: TypeAlias = Callable[[JobEvent], object]


@dataclass(frozen=True)
class DatasetId:
    """Identifies one version of a dataset."""

    name: str
    version: int
    digest: str


@dataclass(frozen=True)
class Replaced:
    """The adapter that a new one was compared with, on the test split of the new one."""

    adapter: AdapterId
    balanced_accuracy: float | None


@dataclass(frozen=True)
class Gate:
    """The decision to publish. It is negative if the adapter is worse than the replaced one by more than `margin`."""

    passed: bool
    reason: str
    margin: float
    forced: bool
    balanced_accuracy: float | None
    replaced: Replaced | None


@dataclass(frozen=True)
class JobResult:
    """The results of a job. `adapter` is None if the gate refused it: the file is then only one of the job's files."""

    published: bool
    adapter: AdapterId | None
    gate: Gate | None
    digest: str | None  # of adapter.safetensors
    size_bytes: int | None
    seconds: float | None
    metrics: Mapping[str, Any]  # {"validation": {...}, "test": {...}}
    files: tuple[str, ...]
    images: int | None = None  # the next three are of a job that labels a dataset
    rows: int | None = None
    failed: int | None = None  # images that cannot be read


@dataclass(frozen=True)
class JobFile:
    """One file of a job."""

    name: str
    size_bytes: int
    digest: str


@dataclass(frozen=True)
class JobInfo:
    """One job as the server last described it."""

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
    raw: Mapping[str, Any] = field(repr=False)  # the JSON object of the HTTP API
    workers: int | None = None  # that could take it while it is queued; None if the server does not say
    tenant: str = "default"  # whose job it is
    owner: str | None = None  # the name of the token that submitted it, if that is known
    kind: str = "train"  # or predict
    canary: float | None = None  # percent of the requests of its alias; None: the alias moves

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def published(self) -> bool:
        return self.result is not None and self.result.published
