"""Tell somebody how far a long run is: a callable, a bar, or nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

Report: TypeAlias = Callable[[int, int | None], object]  # done, total or None where unknown


@contextmanager
def reporting(progress: bool | Report, total: int | None) -> Iterator[Report]:
    """`True` draws a bar on stderr where rich is installed and a terminal is there to see it."""
    if callable(progress):
        yield progress
    elif progress:
        with _bar(total) as report:
            yield report
    else:
        yield _nobody


def _nobody(done: int, total: int | None) -> None:
    return None


@contextmanager
def _bar(total: int | None) -> Iterator[Report]:
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ModuleNotFoundError:
        yield _nobody
        return
    console = Console(stderr=True)
    columns = (TextColumn("images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    seen = console.is_terminal or console.is_jupyter
    with Progress(*columns, console=console, disable=not seen, transient=True) as bar:
        task = bar.add_task("images", total=total)
        yield lambda done, total: bar.update(task, completed=done, total=total)
