"""The wire types of jobs: what a client may request, with a range for each value, and what the server returns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
)

from lensmount_adapters.characters import refused_character
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.options.option import Option
from lensmount_adapters.options.table import JOB_OPTIONS, options_of_jobs
from lensmount_adapters.patterns import compile_pattern
from lensmount_adapters.strict import whole
from lensmount_adapters.text.prompts import Prompts
from lensmount_adapters.training.config import TrainingConfig
from lensmount_service.errors import RequestInvalid
from lensmount_service.jobs.records import DatasetPin, Event, Job, Kind, State, iso
from lensmount_service.store.keys import PUBLIC
from lensmount_service.store.references import require_name

_OWN = frozenset({"kind", "dataset", "adapter", *(option.name for option in JOB_OPTIONS)})


def _plain_text(text: str) -> str:
    if found := refused_character(text, lines=True):
        raise ValueError(f"found {found}, expected plain text")
    return text


def _expression(text: str) -> str:
    compile_pattern(_plain_text(text), ValueError)
    return text


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value  # JSON has no tuples, but strict mode expects one


_TYPES: dict[str, Any] = {
    "str": Annotated[str, AfterValidator(_plain_text)],
    "regex": Annotated[str, AfterValidator(_expression)],
    "int": int,
    "float": float,
    "bool": bool,
    "window": Annotated[tuple[float, float], BeforeValidator(_as_tuple)],
    "prompts": Prompts,
}


_EXAMPLES = {"alias": ["prod"], "head": ["linear", "mlp:256", "cosine"]}


def _field(option: Option) -> tuple[Any, Any]:
    """The option's type and pydantic field."""
    kind = Literal[option.choices] if option.choices else _TYPES[option.type]
    if option.aliases:
        kind = Annotated[kind, BeforeValidator(option.full_word)]
    if option.choices and option.type == "int":
        kind = Annotated[kind, BeforeValidator(whole)]
    most = option.highest_in_jobs
    open_end = option.job_maximum is None and option.maximum is None
    field = Field(
        option.default,
        description=_described(option),
        ge=option.minimum,
        gt=option.above,
        le=None if open_end else most,
        lt=most if open_end else None,
        max_length=option.longest,
        examples=_EXAMPLES.get(option.name),
    )
    return (kind | None if option.default is None else kind), field


def _described(option: Option) -> str:
    """The help text, in which a flag such as --max-file-bytes becomes the field `max_file_bytes`."""
    text = re.sub(r"--[a-z][a-z-]*", lambda flag: f"`{flag[0][2:].replace('-', '_')}`", option.help)
    if option.type == "prompts":
        text = text.replace("TOML file with templates", "Templates (each with one {})")
    return f"{text} Default: {option.unset}." if option.unset else text


class _Submission(BaseModel):
    """The body of POST /jobs: the training options, named as in TrainingConfig, and what to do with the result."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    kind: Literal["train"] = "train"
    dataset: str = Field(max_length=96, examples=["cells", "cells@2"])
    adapter: str = Field(max_length=64, examples=["malaria"])

    if TYPE_CHECKING:  # the fields of the table that the server reads itself
        alias: str | None = None
        canary: float | None = None
        priority: int = 0
        max_attempts: int = 0
        margin: float = 0.0
        force: bool = False

    def hyper_parameters(self) -> dict[str, Any]:
        """The training options as JSON. Raises RequestInvalid if they contradict each other."""
        chosen = self.model_dump(mode="json", exclude=set(_OWN))
        try:
            TrainingConfig(data=Path("data"), name=self.adapter, out=Path("adapter.safetensors"), **chosen)
        except TrainingError as error:
            raise RequestInvalid(str(error)) from error
        return chosen

    def require_alias(self) -> None:
        """Raise RequestInvalid for a canary without an alias."""
        if self.canary is not None and self.alias is None:
            raise RequestInvalid(
                "found canary without alias, expected the alias whose requests it gets. Fix: name the alias, such as "
                "prod, or leave canary out"
            )

    def dataset_reference(self) -> tuple[str, int | None]:
        """The dataset's name and version; the version is None for the latest. Raises RequestInvalid."""
        return dataset_reference(self.dataset)


def dataset_reference(text: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"([^@]+)(?:@([1-9][0-9]{0,8}))?", text)
    if match is None:
        raise RequestInvalid(
            "found a dataset reference that cannot be read, expected name or name@version", code="invalid_reference"
        )
    require_name(match[1].removeprefix(f"{PUBLIC}/"), "dataset name")
    return match[1], int(match[2]) if match[2] else None


if TYPE_CHECKING:
    JobSubmission = _Submission
else:
    JobSubmission = create_model(
        "JobSubmission",
        __base__=_Submission,
        __doc__=_Submission.__doc__,
        **{option.name: _field(option) for option in options_of_jobs()},
    )


class PredictSubmission(BaseModel):
    """The body of POST /jobs for a job that labels a dataset. The server works on it while nobody else asks."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    kind: Literal["predict"]
    dataset: str = Field(max_length=96, examples=["cells", "cells@2"])
    adapters: list[Annotated[str, Field(max_length=256)]] = Field(
        min_length=1,
        max_length=64,
        description="References as in POST /predict",
        examples=[["malaria", "smoking:prod"]],
    )
    priority: int = Field(0, ge=-100, le=100, description="Jobs with a higher priority run first.")
    max_attempts: int = Field(3, ge=1, le=10, description="How many servers may try the job before it fails.")


def _submission_of(value: object, _: ValidatorFunctionWrapHandler) -> JobSubmission | PredictSubmission:
    """By its kind, so that errors are about the fields of one of the two."""
    predicts = isinstance(value, dict) and value.get("kind") == "predict"
    return (PredictSubmission if predicts else JobSubmission).model_validate(value)


Submission = Annotated[JobSubmission | PredictSubmission, WrapValidator(_submission_of)]


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
    workers: int | None = Field(
        None,
        description="While the job waits: how many workers ask for jobs or train one now. Otherwise null.",
    )
    tenant: str = Field("default", description="Whose job it is")
    owner: str | None = Field(None, description="The name of the token that submitted it; null if not known")
    kind: Kind = Field("train", description="train: it makes an adapter. predict: it labels its dataset.")
    canary: float | None = Field(
        None, description="The percentage of requests of the alias that the new version gets; null: the alias moves"
    )


class JobList(BaseModel):
    jobs: list[JobInfo]


class JobFileInfo(BaseModel):
    name: str
    size_bytes: int
    digest: str


class JobFileList(BaseModel):
    files: list[JobFileInfo]


def job_info(job: Job, history: Sequence[dict[str, Any]], workers: int | None = None) -> JobInfo:
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
        workers=workers,
        tenant=request.tenant,
        owner=request.owner,
        kind=request.kind,
        canary=request.canary,
    )


def dataset_ref(pin: DatasetPin) -> DatasetRef:
    return DatasetRef(name=pin.name, version=pin.version, digest=pin.digest)


def event_data(event: Event) -> dict[str, Any]:
    """The data of an event in the stream."""
    return event.data if event.kind == "epoch" else {**event.data, "at": iso(event.at)}
