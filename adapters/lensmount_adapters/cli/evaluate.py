"""`lensmount evaluate`: measure an adapter file on a folder of labelled images."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lensmount_adapters.cli.terminal import fail

if TYPE_CHECKING:
    from lensmount_adapters.training.evaluate import Evaluation


def evaluate(
    adapter: Annotated[Path, typer.Argument(help="The adapter file to evaluate.", exists=True, dir_okay=False)],
    data: Annotated[Path, typer.Option(help="Folder with one folder of images per label of the adapter.")],
    split: Annotated[
        str,
        typer.Option(
            help="test: the images that were held out from training, found with the adapter's record; "
            "train or validation: the images of that part; all: every image of the folder."
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
            raise TrainingError(
                f"found --split {split!r}, expected test, validation, train or all. Fix: choose one of these"
            )
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


def _show_evaluation(title: str, evaluation: Evaluation, as_json: bool) -> None:
    from rich.console import Console

    from lensmount_adapters.report.write import tables

    if as_json:
        typer.echo(json_format.dumps(evaluation.metrics_json, indent=2, ensure_ascii=False))
        return
    console = Console()
    for table in tables(title, evaluation.metrics):
        console.print(table)
    for path in evaluation.written:
        console.print(f"Wrote {path}", markup=False, soft_wrap=True)
