"""Read the JSON of the job endpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lensmount_client._api.read import tenant_of
from lensmount_client._http.json_fields import JsonFields
from lensmount_client._types.jobs import (
    DatasetId,
    Gate,
    JobEnd,
    JobEpoch,
    JobError,
    JobEvent,
    JobFile,
    JobInfo,
    JobLog,
    JobProgress,
    JobResult,
    JobState,
    Replaced,
)
from lensmount_client._types.results import AdapterId


def job_of(fields: JsonFields) -> JobInfo:
    """Raises UnexpectedResponse."""
    progress, result = fields.child_or_none("progress"), fields.child_or_none("result")
    return JobInfo(
        id=fields.string("id"),
        state=fields.string("state"),
        dataset=_dataset_id(fields.child("dataset")),
        adapter=fields.string("adapter"),
        alias=fields.string_or_none("alias"),
        hyper_parameters=fields.child("hyper_parameters").value,
        priority=fields.integer("priority"),
        attempt=fields.integer("attempt"),
        max_attempts=fields.integer("max_attempts"),
        created_at=fields.time("created_at"),
        started_at=fields.time_or_none("started_at"),
        finished_at=fields.time_or_none("finished_at"),
        cancel_requested=fields.boolean("cancel_requested"),
        progress=_progress(progress) if progress else None,
        history=tuple(map(_epoch, fields.children("history"))),
        result=_result(result) if result else None,
        error=_error(fields),
        raw=fields.value,
        workers=fields.integer_or_none("workers"),
        tenant=tenant_of(fields),
        owner=fields.string_or_none("owner"),
        kind=fields.string_or_none("kind") or "train",
        canary=fields.number_or_none("canary"),
    )


def event_of(kind: str, fields: JsonFields) -> JobEvent | None:
    """None for a kind of event that only a newer server sends. Raises UnexpectedResponse."""
    reader = EVENTS.get(kind)
    return reader(fields) if reader else None


def file_of(fields: JsonFields) -> JobFile:
    return JobFile(fields.string("name"), fields.integer("size_bytes"), fields.string("digest"))


def _state(fields: JsonFields) -> JobState:
    return JobState(fields.string("state"), fields.integer("attempt"), fields.time("at"), _error(fields))


def _epoch(fields: JsonFields) -> JobEpoch:
    return JobEpoch(
        epoch=fields.integer("epoch"),
        loss=fields.number_or_none("loss"),
        accuracy=fields.number_or_none("accuracy"),
        validation_loss=fields.number_or_none("validation_loss"),
        validation_balanced_accuracy=fields.number_or_none("validation_balanced_accuracy"),
        seconds=fields.number_or_none("seconds"),
    )


def _progress(fields: JsonFields) -> JobProgress:
    return JobProgress(
        epoch=fields.integer_or_none("epoch"),
        epochs=fields.integer_or_none("epochs"),
        step=fields.integer_or_none("step"),
        steps=fields.integer_or_none("steps"),
        loss=fields.number_or_none("loss"),
        accuracy=fields.number_or_none("accuracy"),
        seconds_left=fields.number_or_none("seconds_left"),
        phase=fields.string_or_none("phase"),
    )


def _log(fields: JsonFields) -> JobLog:
    return JobLog(fields.string("level"), fields.string("message"), fields.time("at"))


def _end(fields: JsonFields) -> JobEnd:
    return JobEnd(fields.string("state"))


EVENTS: Mapping[str, Callable[[JsonFields], JobEvent]] = {
    "state": _state,
    "epoch": _epoch,
    "progress": _progress,
    "log": _log,
    "end": _end,
}


def _error(fields: JsonFields) -> JobError | None:
    error = fields.child_or_none("error")
    return JobError(error.string("code"), error.string("message")) if error else None


def _result(fields: JsonFields) -> JobResult:
    adapter, gate = fields.child_or_none("adapter"), fields.child_or_none("gate")
    metrics = fields.child_or_none("metrics")
    return JobResult(
        published=fields.boolean("published"),
        adapter=_adapter_id(adapter) if adapter else None,
        gate=_gate(gate) if gate else None,
        digest=fields.string_or_none("digest"),
        size_bytes=fields.integer_or_none("size_bytes"),
        seconds=fields.number_or_none("seconds"),
        metrics=metrics.value if metrics else {},
        files=fields.strings("files") if "files" in fields.value else (),
        images=fields.integer_or_none("images"),
        rows=fields.integer_or_none("rows"),
        failed=fields.integer_or_none("failed"),
    )


def _gate(fields: JsonFields) -> Gate:
    replaced = fields.child_or_none("replaced")
    return Gate(
        passed=fields.boolean("passed"),
        reason=fields.string("reason"),
        margin=fields.number("margin"),
        forced=fields.boolean("forced"),
        balanced_accuracy=fields.number_or_none("balanced_accuracy"),
        replaced=Replaced(_adapter_id(replaced), replaced.number_or_none("balanced_accuracy")) if replaced else None,
    )


def _adapter_id(fields: JsonFields) -> AdapterId:
    return AdapterId(fields.string("name"), fields.integer("version"), fields.string("digest"))


def _dataset_id(fields: JsonFields) -> DatasetId:
    return DatasetId(fields.string("name"), fields.integer("version"), fields.string("digest"))
