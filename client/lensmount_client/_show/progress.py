"""Tell somebody how far a long run is: a callable, a bar, or nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

Report: TypeAlias = Callable[[int, int | None], object]  # done, total or None where unknown
Unit: TypeAlias = Literal["images", "bytes"]


@contextmanager
def reporting(progress: bool | Report, total: int | None, unit: Unit = "images") -> Iterator[Report]:
    """`True` draws a bar on stderr where rich is installed and a terminal is there to see it."""
    if callable(progress):
        yield progress
    elif progress:
        with _bar(total, unit) as report:
            yield report
    else:
        yield nobody


def nobody(done: int, total: int | None) -> None:
    return None


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
        yield nobody
        return
    console = Console(stderr=True)
    amount = (DownloadColumn(), TransferSpeedColumn()) if unit == "bytes" else (MofNCompleteColumn(),)
    columns = (TextColumn("{task.description}"), BarColumn(), *amount, TimeRemainingColumn())
    seen = console.is_terminal or console.is_jupyter
    with Progress(*columns, console=console, disable=not seen, transient=True) as bar:
        task = bar.add_task(_doing(0, total, unit), total=total)

        def report(done: int, total: int | None) -> None:
            bar.update(task, description=_doing(done, total, unit), completed=done, total=total)

        yield report


def _doing(done: int, total: int | None, unit: Unit) -> str:
    """What the bar says in front: an upload is packed, sent, and then checked by the server."""
    if unit == "images":
        return unit
    return "packing" if total is None else "uploading" if done < total else "checking"
