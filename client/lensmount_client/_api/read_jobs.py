"""JSON of the job endpoints to values."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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


def job_of(document: JsonFields) -> JobInfo:
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


def event_of(kind: str, document: JsonFields) -> JobEvent | None:
    """None for a kind of event that a newer server has. Raises UnexpectedResponse."""
    reader = EVENTS.get(kind)
    return reader(document) if reader else None


def file_of(document: JsonFields) -> JobFile:
    return JobFile(document.text("name"), document.integer("size_bytes"), document.text("digest"))


def _state(document: JsonFields) -> JobState:
    return JobState(document.text("state"), document.integer("attempt"), document.time("at"), _error(document))


def _epoch(document: JsonFields) -> JobEpoch:
    return JobEpoch(
        epoch=document.integer("epoch"),
        loss=document.number_or_none("loss"),
        accuracy=document.number_or_none("accuracy"),
        validation_loss=document.number_or_none("validation_loss"),
        validation_balanced_accuracy=document.number_or_none("validation_balanced_accuracy"),
        seconds=document.number_or_none("seconds"),
    )


def _progress(document: JsonFields) -> JobProgress:
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


def _log(document: JsonFields) -> JobLog:
    return JobLog(document.text("level"), document.text("message"), document.time("at"))


def _end(document: JsonFields) -> JobEnd:
    return JobEnd(document.text("state"))


EVENTS: Mapping[str, Callable[[JsonFields], JobEvent]] = {
    "state": _state,
    "epoch": _epoch,
    "progress": _progress,
    "log": _log,
    "end": _end,
}


def _error(document: JsonFields) -> JobError | None:
    error = document.child_or_none("error")
    return JobError(error.text("code"), error.text("message")) if error else None


def _result(document: JsonFields) -> JobResult:
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


def _gate(document: JsonFields) -> Gate:
    replaced = document.child_or_none("replaced")
    return Gate(
        passed=document.truth("passed"),
        reason=document.text("reason"),
        margin=document.number("margin"),
        forced=document.truth("forced"),
        balanced_accuracy=document.number_or_none("balanced_accuracy"),
        replaced=Replaced(_adapter_id(replaced), replaced.number_or_none("balanced_accuracy")) if replaced else None,
    )


def _adapter_id(document: JsonFields) -> AdapterId:
    return AdapterId(document.text("name"), document.integer("version"), document.text("digest"))


def _dataset_id(document: JsonFields) -> DatasetId:
    return DatasetId(document.text("name"), document.integer("version"), document.text("digest"))
