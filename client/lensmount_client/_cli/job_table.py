"""One job as a table, for the command line."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from rich.console import Group, RenderableType

from lensmount_client._advice import for_command_line
from lensmount_client._cli.terminal import file_size
from lensmount_client._show.job_board import JobBoard
from lensmount_client._show.table import Facts
from lensmount_client._types.jobs import Gate, JobInfo


def described_job(info: JobInfo, curves: bool = True) -> RenderableType:
    """A job as a table, with its curves below."""
    facts = Facts()
    for word, value in _rows(info):
        facts.add(word, value)
    drawn = JobBoard(info).curves() if curves else None
    return Group(facts, drawn) if drawn else facts


def _rows(info: JobInfo) -> Iterator[tuple[str, str]]:
    yield "job", info.id
    yield "state", info.state + (", stop requested" if info.cancel_requested and not info.ended else "")
    yield "outcome", outcome(info)
    yield "dataset", dataset_reference(info)
    yield "attempt", f"{info.attempt} of {info.max_attempts}" if info.attempt > 1 else ""
    if info.started_at and info.finished_at:
        yield "time", str(timedelta(seconds=round((info.finished_at - info.started_at).total_seconds())))
    if info.error:
        yield "error", f"{for_command_line(info.error.message)} ({info.error.code})"
    result = info.result
    if result is None:
        return
    for part in ("test", "validation"):
        metrics = result.metrics.get(part)
        if isinstance(metrics, dict):
            yield part, _metrics(metrics)
    if result.gate is not None:
        yield "gate", _gate(result.gate)
    if result.digest:
        yield "file", f"{file_size(result.size_bytes or 0)}  {result.digest}"
    yield "files", ", ".join(result.files)


def outcome(info: JobInfo) -> str:
    if info.state == "running" and info.progress and not info.progress.trains:
        return info.progress.phase or ""
    if info.kind == "predict" and info.state == "running" and info.progress:
        return f"{info.progress.phase} {info.progress.step}/{info.progress.steps}"
    if info.state == "running" and info.progress and info.progress.epochs:
        return f"{info.progress.phase or 'training'} epoch {info.progress.epoch}/{info.progress.epochs}"
    if info.error is not None:
        return info.error.code
    if info.result is None:
        return ""
    adapter = info.result.adapter
    if info.result.rows is not None:
        return f"{info.result.rows:,} rows" + (f", {info.result.failed:,} images failed" if info.result.failed else "")
    if not info.result.published or adapter is None:
        return "not published"
    return f"published {adapter.name}@{adapter.version}{_alias(info)}"


def _alias(info: JobInfo) -> str:
    """What the job's alias has to do with the new version."""
    if not info.alias:
        return ""
    compared = info.result and info.result.gate and info.result.gate.replaced
    if info.canary is None or not compared:  # an alias that did not exist is set at once
        return f" as {info.adapter}:{info.alias}"
    return f" as the canary of {info.adapter}:{info.alias}, {info.canary:g} %"


def _gate(gate: Gate) -> str:
    verdict = "passed" if gate.passed else "forced" if gate.forced else "refused"
    return f"{verdict}: {gate.reason}"


def _metrics(metrics: dict[str, Any]) -> str:
    words = ("balanced_accuracy", "accuracy")
    known = [(word.replace("_", " "), metrics[word]) for word in words if isinstance(metrics.get(word), float)]
    return ", ".join(f"{word} {value:.1%}" for word, value in known)


def dataset_reference(info: JobInfo) -> str:
    return f"{info.dataset.name}@{info.dataset.version}"


def percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
