"""The wire types of jobs: what a client may ask for, in closed ranges, and what it is told."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from lensmount_adapters.config import TrainingConfig
from lensmount_adapters.errors import TrainingError
from lensmount_service.errors import RequestInvalid
from lensmount_service.jobs import DatasetPin, Event, Job, State
from lensmount_service.references import require_name

_OWN = frozenset({"dataset", "adapter", "alias", "priority", "max_attempts", "margin", "force"})


def _plain_text(text: str) -> str:
    if not text.isprintable() and any(not (c.isprintable() or c in "\n\r\t") for c in text):
        raise ValueError("found control characters, expected plain text")
    return text


def _expression(text: str | None) -> str | None:
    if text is not None:
        try:
            re.compile(_plain_text(text))
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"found no regular expression ({str(error)[:80]})") from error
    return text


Text = Annotated[str, AfterValidator(_plain_text)]
Expression = Annotated[str | None, Field(max_length=512), AfterValidator(_expression)]


class JobSubmission(BaseModel):
    """The body of POST /jobs: fields of a training run by their names in TrainingConfig, and what becomes of it."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    dataset: str = Field(max_length=80, examples=["cells", "cells@2"])
    adapter: str = Field(max_length=64, examples=["malaria"])
    alias: str | None = Field(None, max_length=64, examples=["prod"])

    method: Text = Field("lora", max_length=64)
    rank: int = Field(8, ge=1, le=256)
    alpha: float | None = Field(None, gt=0, le=10_000)
    init_std: float | None = Field(None, gt=0, le=10)
    targets: Expression = None
    head: Text = Field("linear", max_length=64, examples=["linear", "mlp:256", "cosine"])
    epochs: int | None = Field(None, ge=1, le=1000)
    shots: int | None = Field(None, ge=1, le=100_000)
    seed: int = Field(0, ge=0, le=2**53 - 1)
    size: int | None = Field(None, ge=32, le=1024)
    resize: Literal["squash", "crop", "pad"] = "squash"
    augment: Text = Field("photo", max_length=32)
    group_regex: Expression = None
    validation_fraction: float = Field(0.15, ge=0, le=0.5)
    test_fraction: float = Field(0.15, ge=0, le=0.5)
    batch_size: int = Field(32, ge=1, le=1024)
    learning_rate: float = Field(4e-3, ge=1e-7, le=1)
    weight_decay: float = Field(0.01, ge=0, le=1)
    label_smoothing: float = Field(0.1, ge=0, le=0.9)
    class_weights: Literal["none", "balanced"] = "balanced"
    mixup: float = Field(0.0, ge=0, le=10)
    cutmix: float = Field(0.0, ge=0, le=10)
    average: float = Field(0.98, ge=0, le=0.9999)
    patience: int | None = Field(None, ge=1, le=1000)
    auto: bool = False
    max_file_bytes: int | None = Field(None, ge=1024, le=2**30)
    max_seconds: float | None = Field(None, gt=0, le=7 * 86_400)
    orientations: Literal[1, 2, 4, 8] = 1
    cache_trunk: Literal["auto", "on", "off"] = "auto"
    views: int = Field(4, ge=1, le=1000)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    description: Text = Field("", max_length=4000)
    license: Text = Field("", max_length=200)

    priority: int = Field(0, ge=-100, le=100)
    max_attempts: int = Field(3, ge=1, le=10)
    margin: float = Field(0.01, ge=0, le=1)
    force: bool = False

    def hyper_parameters(self) -> dict[str, Any]:
        """The fields of the training run. Raises RequestInvalid where they do not fit together."""
        chosen = self.model_dump(exclude=set(_OWN))
        try:
            TrainingConfig(data=Path("data"), name=self.adapter, out=Path("adapter.safetensors"), **chosen)
        except TrainingError as error:
            raise RequestInvalid(str(error)) from error
        return chosen

    def dataset_reference(self) -> tuple[str, int | None]:
        """Name and version, None for the latest. Raises RequestInvalid."""
        match = re.fullmatch(r"([^@]+)(?:@([1-9][0-9]{0,8}))?", self.dataset)
        if match is None:
            raise RequestInvalid(
                "found a dataset that cannot be read, expected name or name@version", code="invalid_reference"
            )
        require_name(match[1], "dataset name")
        return match[1], int(match[2]) if match[2] else None


class DatasetRef(BaseModel):
    name: str
    version: int
    digest: str


class JobError(BaseModel):
    code: str = Field(examples=["worker_lost"])
    message: str


class JobInfo(BaseModel):
    """One job as it is now."""

    id: str
    state: State
    dataset: DatasetRef
    adapter: str
    alias: str | None
    hyper_parameters: dict[str, Any]
    priority: int
    attempt: int
    max_attempts: int
    created_at: str
    started_at: str | None
    finished_at: str | None
    cancel_requested: bool
    progress: dict[str, Any] | None
    history: list[dict[str, Any]]
    result: dict[str, Any] | None
    error: JobError | None


class JobList(BaseModel):
    jobs: list[JobInfo]


class JobFileInfo(BaseModel):
    name: str
    size_bytes: int
    digest: str


class JobFileList(BaseModel):
    files: list[JobFileInfo]


def job_info(job: Job, history: Sequence[dict[str, Any]]) -> JobInfo:
    request = job.request
    return JobInfo(
        id=job.id,
        state=job.state,
        dataset=dataset_ref(request.dataset),
        adapter=request.adapter,
        alias=request.alias,
        hyper_parameters=request.hyper_parameters,
        priority=request.priority,
        attempt=job.attempt,
        max_attempts=request.max_attempts,
        created_at=iso(job.created_at),
        started_at=iso(job.started_at) if job.started_at else None,
        finished_at=iso(job.finished_at) if job.finished_at else None,
        cancel_requested=job.cancel_requested,
        progress=job.progress if job.state == "running" else None,
        history=list(history),
        result=job.outcome,
        error=JobError(code=job.error[0], message=job.error[1]) if job.error else None,
    )


def dataset_ref(pin: DatasetPin) -> DatasetRef:
    return DatasetRef(name=pin.name, version=pin.version, digest=pin.digest)


def event_data(event: Event) -> dict[str, Any]:
    """What the stream says of an event."""
    return event.data if event.kind == "epoch" else {**event.data, "at": iso(event.at)}


def iso(seconds: float) -> str:
    """Seconds since the epoch as ISO 8601 with milliseconds, in UTC."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
