"""Progress and errors of this package's commands in the terminal."""

from __future__ import annotations

import json as json_format
import sys
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from lensmount_adapters.training.train_adapter import Progress


def progress_bar(*, quiet: bool) -> AbstractContextManager[Callable[[Progress], None]]:
    """Show one bar over all steps with loss, accuracy and time left, and a line per epoch, on the error stream."""
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    @contextmanager
    def shown() -> Iterator[Callable[[Progress], None]]:
        columns = (
            TextColumn("{task.fields[phase]} {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}  accuracy {task.fields[accuracy]:.3f}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        console = Console(stderr=True)
        bar = Bar(*columns, console=console, disable=quiet)
        task = bar.add_task("training", total=None, phase="epoch", epoch="1", loss=float("nan"), accuracy=0.0)

        def listen(progress: Progress) -> None:
            bar.start()
            bar.update(
                task,
                total=progress.epochs * progress.steps,
                completed=(progress.epoch - 1) * progress.steps + progress.step,
                phase=_PHASES[progress.phase],
                epoch=f"{progress.epoch}/{progress.epochs}",
                loss=progress.loss,
                accuracy=progress.accuracy,
            )
            if progress.done is not None and not quiet:
                console.print(epoch_line(progress), soft_wrap=True)

        if console.is_terminal and not quiet:
            console.print("Reading the images and measuring the machine ...")
        try:
            yield listen
        finally:
            if bar.live.is_started:
                bar.stop()

    return shown()


_PHASES = {
    "training": "epoch",
    "caching": "views of epoch",
    "searching": "trying methods, epoch",
    "calibrating": "calibrating, epoch",
}


def epoch_line(progress: Progress) -> str:
    """The line that is printed at the end of an epoch."""
    done = progress.done
    line = f"epoch {progress.epoch:3d}  loss {progress.loss:.4f}  accuracy {progress.accuracy:.4f}"
    if done is None or done.validation_loss is None or done.validation_balanced_accuracy is None:
        return line
    return (
        f"{line}  validation: loss {done.validation_loss:.4f}, "
        f"balanced accuracy {done.validation_balanced_accuracy:.4f}"
    )


def fail(error: Exception, as_json: bool) -> NoReturn:
    """Print one line on the error stream, or a JSON document on stdout, and exit with status 1."""
    code = getattr(error, "code", "error")
    if as_json:
        typer.echo(json_format.dumps({"error": {"code": code, "message": str(error)}}, ensure_ascii=False))
    else:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201  # the command's own error stream
    raise typer.Exit(1) from error
