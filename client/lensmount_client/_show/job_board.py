"""Show a running job: a live bar and two curves in a terminal, one line per epoch elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from lensmount_client._advice import for_command_line
from lensmount_client._show.sparkline import BARS, PLAIN_BARS, sparkline
from lensmount_client._types.jobs import (
    AFTER_TRAINING,
    JobEpoch,
    JobEvent,
    JobInfo,
    JobLog,
    JobProgress,
    JobReport,
    JobState,
)

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

NO_WORKER_AFTER_S = 5.0  # in the queue, before a hint at what may be missing
NO_WORKER = "No worker has taken the job yet. To start one: `lensmount worker` or `lensmount serve --with-worker`"
NO_WORKER_SEEN = (
    "The server sees no worker, so the job waits. Fix: start one with `lensmount worker`, "
    "or the server with `lensmount serve --with-worker`. A new worker needs a few seconds to start."
)
WORKERS_BUSY = "Waiting for a free worker."


@contextmanager
def watching(progress: bool | JobReport, info: JobInfo) -> Iterator[JobReport]:
    """Yield a callable that takes each event. `True` draws on stderr if rich is installed."""
    if callable(progress):
        yield progress
    elif progress:
        with _display(info) as report:
            yield report
    else:
        yield _no_report


def _no_report(event: JobEvent) -> None:
    return None


@contextmanager
def _display(info: JobInfo) -> Iterator[JobReport]:
    try:
        from rich.console import Console
        from rich.live import Live
    except ModuleNotFoundError:
        yield _no_report
        return
    console = Console(stderr=True)
    board = JobBoard(info)
    if not (console.is_terminal or console.is_jupyter):
        _print(console, NO_WORKER_SEEN if board.has_no_worker else None)
        yield lambda event: _print(console, board.line(event))
        return
    with Live(get_renderable=lambda: board.drawn(console), console=console, refresh_per_second=4) as live:

        def report(event: JobEvent) -> None:
            board.take(event)
            if isinstance(event, JobLog) and event.level in ("warning", "error"):
                _print(live.console, f"{event.level}: {event.message}")
            live.refresh()

        yield report


def _print(console: Console, line: str | None) -> None:
    from rich.text import Text

    from lensmount_client._show.text import printable

    if line:
        console.print(Text(printable(line)), soft_wrap=True)


class JobBoard:
    """The display of one job, updated by its events."""

    def __init__(self, info: JobInfo, clock: Callable[[], float] = time.monotonic) -> None:
        self._info = info
        self._state = info.state
        self._attempt = info.attempt
        self._progress = info.progress
        self._epochs = {epoch.epoch: epoch for epoch in info.history}  # a resumed attempt may report an epoch again
        self._clock = clock
        self._since_s = clock()

    def take(self, event: JobEvent) -> None:
        if isinstance(event, JobState):
            self._state, self._attempt = event.state, event.attempt
            self._since_s = self._clock()
        elif isinstance(event, JobProgress):
            self._progress = event
        elif isinstance(event, JobEpoch):
            self._epochs[event.epoch] = event

    def line(self, event: JobEvent) -> str | None:
        """The event as one log line, or None if it is not worth a line."""
        self.take(event)
        if isinstance(event, JobState):
            again = f", attempt {event.attempt} of {self._info.max_attempts}" if event.attempt > 1 else ""
            reason = f": {for_command_line(event.error.message)}" if event.error else ""
            return f"job {self._info.id} {event.state}{again}{reason}"
        if isinstance(event, JobLog):
            return f"{event.level}: {event.message}" if event.level in ("warning", "error") else None
        if not isinstance(event, JobEpoch):
            return None
        epochs = self._progress.epochs if self._progress else self._info.hyper_parameters.get("epochs")
        parts = [f"epoch {event.epoch}" + (f"/{epochs}" if epochs else ""), *_measures(event.loss, event.accuracy)]
        validation = _measures(event.validation_loss, event.validation_balanced_accuracy)
        parts += ["validation", *validation] if validation else []
        return "  ".join([*parts, *self._time_left()])

    def drawn(self, console: Console) -> RenderableType:
        """The complete display, for a terminal."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        from lensmount_client._show.text import printable

        head = Table.grid(padding=(0, 2))
        head.add_row(Text(printable(self._info.adapter), style="bold"), *self._bar(), *self._time_left())
        rows: list[RenderableType] = [head]
        if details := self._details():
            rows.append(Text("  ".join(details), style="dim"))
        if hint := self._hint():
            rows.append(Text(hint, style="yellow"))
        bars = BARS if console.encoding.lower().startswith("utf") else PLAIN_BARS
        curves = self.curves(bars, max(10, min(40, console.width - 42)))
        return Group(*rows, curves) if curves else Group(*rows)

    @property
    def has_no_worker(self) -> bool:
        """True if the job is queued and the server reports that it sees no worker."""
        return self._state == "queued" and self._info.workers == 0

    def _hint(self) -> str | None:
        """Why the job is still queued."""
        if self.has_no_worker:
            return NO_WORKER_SEEN
        if self._state != "queued" or self._clock() - self._since_s <= NO_WORKER_AFTER_S:
            return None
        return NO_WORKER if self._info.workers is None else WORKERS_BUSY

    def curves(self, bars: str = BARS, width: int = 40) -> RenderableType | None:
        """Validation accuracy and loss by epoch."""
        from rich.table import Table
        from rich.text import Text

        epochs = [self._epochs[number] for number in sorted(self._epochs)]
        table = Table.grid(padding=(0, 2))
        for name, values, formatted, style in (
            ("accuracy", [e.validation_balanced_accuracy for e in epochs], _percent, "green"),
            ("loss", [e.validation_loss for e in epochs], _loss, "blue"),
        ):
            known = [value for value in values if value is not None]
            if known:
                span = " -> ".join(map(formatted, known[:1] + known[1:][-1:]))
                table.add_row(f"validation {name}", Text(sparkline(values, width, bars), style=style), span)
        return table if table.row_count else None

    def _bar(self) -> list[Any]:
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        from lensmount_client._show.text import printable

        again = f" (attempt {self._attempt} of {self._info.max_attempts})" if self._attempt > 1 else ""
        progress = self._progress
        if self._state != "running" or progress is None:
            return [Text(printable("starting" if self._state == "running" else self._state) + again)]
        phase = Text(printable(progress.phase or "training") + again)
        if not progress.trains and progress.phase not in AFTER_TRAINING:
            return [phase]  # a phase of a newer server, which may have no share
        share = share_of(progress)
        bar = ProgressBar(total=1.0, completed=share or 0.0, width=20, pulse=share is None)
        return [phase, bar, Text("" if share is None else f"{share:.0%}")]

    def _details(self) -> list[str]:
        progress = self._progress
        if self._state != "running" or progress is None or not progress.trains:
            return []
        numbered = (("epoch", progress.epoch, progress.epochs), ("step", progress.step, progress.steps))
        counts = [f"{word} {number}/{total}" for word, number, total in numbered if number is not None and total]
        return [
            *counts,
            *(_measures(progress.loss, progress.accuracy) if progress.step else []),
        ]  # before the first step all are 0

    def _time_left(self) -> list[str]:
        progress = self._progress
        if self._state != "running" or progress is None or progress.seconds_left is None:
            return []
        return [f"{timedelta(seconds=round(progress.seconds_left))} left"]


def share_of(progress: JobProgress) -> float | None:
    """The share of the training that is done, in [0, 1]. None if it is unknown."""
    if not progress.trains:
        return None
    within = min(progress.step / progress.steps, 1.0) if progress.step is not None and progress.steps else None
    if progress.epochs:
        return min((max((progress.epoch or 1) - 1, 0) + (within or 0.0)) / progress.epochs, 1.0)
    return within


def _measures(loss: float | None, accuracy: float | None) -> list[str]:
    words = [f"loss {_loss(loss)}"] if loss is not None else []
    return [*words, f"accuracy {_percent(accuracy)}"] if accuracy is not None else words


def _percent(value: float) -> str:
    return f"{value:.1%}"


def _loss(value: float) -> str:
    return f"{value:.3f}"
