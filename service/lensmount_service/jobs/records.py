"""The records of the job table: jobs, requests, events, leases."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from lensmount_service.store.database import iso as iso
from lensmount_service.store.keys import DEFAULT_TENANT

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]


Kind = Literal["train", "predict"]


STATES: tuple[State, ...] = ("queued", "running", "succeeded", "failed", "cancelled")


ENDED = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class DatasetPin:
    """The dataset version that a job trains on; it stays the same when the dataset's name gets a newer version.

    `key` is the dataset's key in the store if the job's tenant names it public/NAME, otherwise None.
    """

    name: str
    version: int
    digest: str
    key: str | None = None


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What a client asks for. `hyper_parameters` are fields of TrainingConfig; `backbone` is a fingerprint.

    A job of the kind `predict` has its adapters as `hyper_parameters`, and its first one as `adapter`.
    Dataset and adapter have the names that `tenant` gives them. `owner` is the actor who submits the job,
    and only one `by_admin` moves a protected alias. With `canary`, a percentage, an existing alias stays, and
    the new version becomes its canary. `traceparent` is the span of the request, of which the job is a part;
    "" without a trace.
    """

    dataset: DatasetPin
    adapter: str
    backbone: str
    hyper_parameters: dict[str, Any] = field(default_factory=dict)
    alias: str | None = None
    priority: int = 0
    max_attempts: int = 3
    margin: float = 0.01
    force: bool = False
    canary: float | None = None
    kind: Kind = "train"
    tenant: str = DEFAULT_TENANT
    owner: str | None = None
    by_admin: bool = False
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One event in a job's history. `number` counts from 1 within the job; `at` is seconds since the epoch."""

    number: int
    kind: Literal["state", "epoch", "log"]
    at: float
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it is now. Times are seconds since the epoch; `attempt` counts claims since the last manual retry."""

    id: str
    number: int
    request: JobRequest
    state: State
    attempt: int
    cancel_requested: bool
    progress: dict[str, Any] | None
    outcome: dict[str, Any] | None
    error: tuple[str, str] | None
    created_at: float
    started_at: float | None
    finished_at: float | None

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def tag(self) -> str:
        """Its ETag: it stands for state, attempt and a request to stop, and not for the progress within them."""
        return f"{self.state}.{self.attempt}" + (".stopping" if self.cancel_requested else "")


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's right to one job; it is lost as soon as another worker claims the job and gets a new token."""

    job: Job
    token: str

    @property
    def id(self) -> str:
        return self.job.id


@dataclass(frozen=True, slots=True)
class Published:
    """The adapter version that a job has published."""

    name: str
    version: int
