"""`lensmount evaluate`: measure an adapter file on a folder of labelled images."""

from __future__ import annotations

import json as json_format
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lensmount_adapters.cli.command_options import with_options
from lensmount_adapters.cli.terminal import fail
from lensmount_adapters.options.option import Option
from lensmount_adapters.options.table import TRAINING_OPTIONS

if TYPE_CHECKING:
    from lensmount_adapters.training.evaluate import Evaluation
    from lensmount_adapters.trust.fit import Wanted


_THRESHOLDS = ("coverage", "accept_accuracy", "positive", "sensitivity", "specificity")
OPTIONS = (
    Option(
        "weights",
        "str",
        "",
        unset="as trained",
        help="The backbone's weights: FILE, 'hub' or 'random:SEED'.",
    ),
    Option("device", "str", "", default="cpu", help="cpu or cuda."),
    *(replace(each, default=None, unset="", panel="") for each in TRAINING_OPTIONS if each.name in _THRESHOLDS),
    Option(
        "prevalence",
        "float",
        "",
        above=0,
        below=1,
        unset="as trained",
        help="How frequent that label is in use, e.g. 0.02: PPV and NPV there.",
    ),
    Option("author", "str", "", default="", help="Who evaluates, for the report. Nobody is named without it."),
)


@with_options(OPTIONS, before="json")
def evaluate(
    adapter: Annotated[Path, typer.Argument(help="The adapter file to evaluate.", exists=True, dir_okay=False)],
    data: Annotated[Path, typer.Option(help="Folder with one folder of images per label of the adapter.")],
    split: Annotated[
        str,
        typer.Option(
            help="test: the images that were held out from training, found with the adapter's record; "
            "train, validation or calibration: the images of that part; all: every image of the folder."
        ),
    ] = "test",
    out: Annotated[
        Path | None, typer.Option(help="Folder for metrics.json, metrics.png (confusion matrix, ROC) and report.html.")
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(
            help="An earlier adapter file with the same labels, asked about the same images.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
    **options: Any,
) -> None:
    """Measure an adapter on labelled images: accuracy, per-class figures, AUROC, confusion matrix."""
    from lensmount_adapters.errors import LensmountError
    from lensmount_adapters.training.evaluate import evaluate as run

    try:
        wanted = _checked(split, options)
        evaluation = run(
            adapter,
            data,
            split=split,  # type: ignore[arg-type]  # checked above
            out=out,
            compare=compare,
            wanted=wanted,
            **options,
        )
    except LensmountError as error:
        fail(error, json)
    _show_evaluation(f"{adapter.name} on the {split} part of {data}", evaluation, json)


def _checked(split: str, options: dict[str, Any]) -> Wanted | None:
    """The thresholds that are asked for, which are taken out of `options`; None if none are. Raises TrainingError."""
    from lensmount_adapters.errors import TrainingError
    from lensmount_adapters.training.promises import wanted_or_none

    if split not in ("test", "validation", "train", "calibration", "all"):
        raise TrainingError(
            f"found --split {split!r}, expected test, validation, train, calibration or all. Fix: choose one of these"
        )
    for option in OPTIONS:
        if (expected := option.expected_instead(options[option.name])) is not None:
            raise TrainingError(f"found {option.in_words(options[option.name])}, expected {expected}")
    thresholds = {name: options.pop(name) for name in _THRESHOLDS if name != "positive"}
    if all(value is None for value in thresholds.values()):
        return None
    return wanted_or_none(thresholds | {"positive": options["positive"]})


def _show_evaluation(title: str, evaluation: Evaluation, as_json: bool) -> None:
    from rich.console import Console

    from lensmount_adapters.report.promises import kept, thresholds
    from lensmount_adapters.report.write import tables

    if as_json:
        typer.echo(json_format.dumps(evaluation.metrics_json, indent=2, ensure_ascii=False))
        return
    console = Console()
    for table in tables(title, evaluation.metrics):
        console.print(table)
    for warning in evaluation.metrics_json["warnings"]:
        console.print(f"Note: {warning}", style="yellow", markup=False)
    for line in kept(evaluation.metrics_json["trust"]):
        console.print(line, markup=False, soft_wrap=True)
    if other := evaluation.metrics_json.get("wanted"):
        console.print("With thresholds of three quarters of these images, measured on the other quarter in turn:")
        for line in thresholds(other):
            console.print(f"  {line}", markup=False, soft_wrap=True)
    for path in evaluation.written:
        console.print(f"Wrote {path}", markup=False, soft_wrap=True)
