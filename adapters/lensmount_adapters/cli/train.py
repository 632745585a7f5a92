"""`lensmount train`, `evaluate` and `sizes`: the functions of training and evaluation, with a terminal around them."""

from __future__ import annotations

import json as json_format
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from lensmount_adapters.cli.command_options import with_options
from lensmount_adapters.training.options import options_of_train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from lensmount_adapters.training.evaluate import Evaluation
    from lensmount_adapters.training.train_adapter import Progress, TrainingResult


@with_options(options_of_train(), before="report")
def train(
    report: Annotated[
        Path | None,
        typer.Option(help="Folder for card.md, report.html and metrics.  (default: OUT without suffix, '-report')"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
    **options: Any,
) -> None:
    """Train an adapter on a folder of images.

    Splits the images into training, validation and test parts, trains, keeps the best epoch, writes one small file
    and a report beside it.
    Ctrl-C ends the training early and keeps the best so far.
    """
    from lensmount_adapters.errors import LensmountError
    from lensmount_adapters.report.write import write_run_report
    from lensmount_adapters.training.config import TrainingConfig
    from lensmount_adapters.training.prompts import read_prompts
    from lensmount_adapters.training.train_adapter import train as run

    try:
        if options["prompts"] is not None:
            options["prompts"] = read_prompts(options["prompts"])
        config = TrainingConfig(**options)
        with progress_bar(quiet=json) as listener:
            result = run(config, listener)
        folder = report or config.out.with_name(f"{config.out.stem}-report")
        parts = result.judged
        written = write_run_report(
            folder, result.manifest, result.digest, result.size_bytes, parts, result.folder.read, notes=result.notes
        )
    except LensmountError as error:
        fail(error, json)
    _show_training(result, written, json)


def evaluate(
    adapter: Annotated[Path, typer.Argument(help="The adapter file to judge.", exists=True, dir_okay=False)],
    data: Annotated[Path, typer.Option(help="Folder with one folder of images for each label of the adapter.")],
    split: Annotated[
        str,
        typer.Option(
            help="test: the very images that were kept from training, found again from the adapter's record; "
            "also train, validation; all: every image of the folder."
        ),
    ] = "test",
    out: Annotated[
        Path | None, typer.Option(help="Folder for metrics.json, metrics.png (confusion matrix, ROC) and report.html.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="The backbone's weights: FILE, 'hub' or 'random:SEED'.  (default: as trained)")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
) -> None:
    """Measure an adapter on labelled images: accuracy, per-class figures, AUROC, confusion matrix."""
    from lensmount_adapters.errors import LensmountError, TrainingError
    from lensmount_adapters.training.evaluate import evaluate as run

    try:
        if split not in ("test", "validation", "train", "all"):
            raise TrainingError(f"found --split {split!r}, expected test, validation, train or all")
        evaluation = run(
            adapter,
            data,
            split=split,  # type: ignore[arg-type]  # checked above
            out=out,
            weights=weights,
            device=device,
        )
    except LensmountError as error:
        fail(error, json)
    _show_evaluation(f"{adapter.name} on the {split} part of {data}", evaluation, json)


def sizes(
    backbone: Annotated[str, typer.Argument(help="The network: any timm name, such as resnet34.")],
    rank: Annotated[
        list[int] | None,
        typer.Option(min=1, help="A rank of the deltas; may be given several times.  (default: 4 8 16)"),
    ] = None,
    targets: Annotated[
        str | None, typer.Option(help="Regular expression for the layers to count.  (default: by backbone)")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the table (.md) or draw it (.png, .svg).", dir_okay=False)
    ] = None,
) -> None:
    """Count what LoRA and its CP/Tucker form would store for each layer of a backbone, and where each breaks even."""
    from lensmount_adapters.errors import LensmountError
    from lensmount_adapters.report.size_table import size_table

    try:
        table = size_table(backbone, rank or (4, 8, 16), targets)
        typer.echo(table.markdown(), nl=False)
        if out is not None:
            typer.echo(f"\nWrote {table.write(out)}")
    except LensmountError as error:
        fail(error, as_json=False)


def progress_bar(*, quiet: bool) -> AbstractContextManager[Callable[[Progress], None]]:
    """One bar over all steps with loss, accuracy and time left, on the error stream; a line for each epoch."""
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
                console.print(_epoch_line(progress), soft_wrap=True)

        if console.is_terminal and not quiet:
            console.print("Reading the images and measuring the machine ...")
        try:
            yield listen
        finally:
            if bar.live.is_started:
                bar.stop()

    return shown()


_PHASES = {"training": "epoch", "caching": "views of epoch", "searching": "trying methods, epoch"}


def _epoch_line(progress: Progress) -> str:
    done = progress.done
    line = f"epoch {progress.epoch:3d}  loss {progress.loss:.4f}  accuracy {progress.accuracy:.4f}"
    if done is None or done.validation_loss is None or done.validation_balanced_accuracy is None:
        return line
    return (
        f"{line}  validation: loss {done.validation_loss:.4f}, "
        f"balanced accuracy {done.validation_balanced_accuracy:.4f}"
    )


def _show_training(result: TrainingResult, report: list[Path], as_json: bool) -> None:
    from rich.console import Console

    from lensmount_adapters.report.write import tables

    if as_json:
        document = {
            "path": str(result.path),
            "digest": result.digest,
            "size_bytes": result.size_bytes,
            "interrupted": result.interrupted,
            "notes": list(result.notes),
            "report": [str(path) for path in report],
            "record": result.record,
        }
        typer.echo(json_format.dumps(document, indent=2, ensure_ascii=False))
        return
    console = Console()
    for note in result.notes:
        console.print(f"Note: {note}", style="yellow", markup=False)
    for part, metrics in (("validation", result.validation), ("test", result.test)):
        if metrics is not None:
            for table in tables(part, metrics):
                console.print(table)
    epochs = result.record["epochs"]
    if result.interrupted:
        console.print(
            f"Interrupted after epoch {epochs['run']} of {epochs['asked']}: the best epoch so far is kept. "
            "The same command with --resume goes on.",
            style="yellow",
        )
    console.print(
        f"Wrote {result.path} ({result.size_bytes / 1e6:.2f} MB, epoch {epochs['best']} of {epochs['run']}, "
        f"{result.record['trainable_parameters']:,} trained parameters, {result.digest})",
        markup=False,
        soft_wrap=True,
    )
    for path in report:
        if path.suffix in (".html", ".md"):
            console.print(f"Wrote {path}", markup=False, soft_wrap=True)


def _show_evaluation(title: str, evaluation: Evaluation, as_json: bool) -> None:
    from rich.console import Console

    from lensmount_adapters.report.write import tables

    if as_json:
        typer.echo(json_format.dumps(evaluation.document, indent=2, ensure_ascii=False))
        return
    console = Console()
    for table in tables(title, evaluation.metrics):
        console.print(table)
    for path in evaluation.written:
        console.print(f"Wrote {path}", markup=False, soft_wrap=True)


def fail(error: Exception, as_json: bool) -> NoReturn:
    """One line on the error stream, or a JSON document; exit status 1."""
    code = getattr(error, "code", "error")
    if as_json:
        typer.echo(json_format.dumps({"error": {"code": code, "message": str(error)}}, ensure_ascii=False))
    else:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201  # the command's own error stream
    raise typer.Exit(1) from error
