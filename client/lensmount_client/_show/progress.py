"""Report the progress of a long run to a callable, to a bar on the terminal, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

from lensmount_client._types.progress import Report, no_report

Unit: TypeAlias = Literal["images", "bytes"]


@contextmanager
def reporting(progress: bool | Report, total: int | None, unit: Unit = "images") -> Iterator[Report]:
    """Yield a callable for progress. `True` draws a bar on stderr if rich is installed and stderr is a terminal."""
    if callable(progress):
        yield progress
    elif progress:
        with _bar(total, unit) as report:
            yield report
    else:
        yield no_report


@contextmanager
def _bar(total: int | None, unit: Unit) -> Iterator[Report]:
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
    except ModuleNotFoundError:
        yield no_report
        return
    console = Console(stderr=True)
    amount = (DownloadColumn(), TransferSpeedColumn()) if unit == "bytes" else (MofNCompleteColumn(),)
    columns = (TextColumn("{task.description}"), BarColumn(), *amount, TimeRemainingColumn())
    visible = console.is_terminal or console.is_jupyter
    with Progress(*columns, console=console, disable=not visible, transient=True) as bar:
        task = bar.add_task(_description(0, total, unit), total=total)

        def report(done: int, total: int | None) -> None:
            bar.update(task, description=_description(done, total, unit), completed=done, total=total)

        yield report


def _description(done: int, total: int | None, unit: Unit) -> str:
    """The text before the bar. An upload is packed, sent, and then checked by the server."""
    if unit == "images":
        return unit
    return "packing" if total is None else "uploading" if done < total else "checking"
