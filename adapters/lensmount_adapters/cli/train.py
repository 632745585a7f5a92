"""`lensmount train`: train an adapter on a folder of images."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lensmount_adapters.cli.command_options import with_options
from lensmount_adapters.cli.terminal import fail, progress_bar
from lensmount_adapters.options.table import options_of_train

if TYPE_CHECKING:
    from lensmount_adapters.training.result import TrainingResult


@with_options(options_of_train(), before="report")
def train(
    report: Annotated[
        Path | None,
        typer.Option(help="Folder for card.md, report.html and metrics.  (default: OUT without suffix, '-report')"),
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(
            help="An earlier adapter file with the same labels: the report compares both on the same test images.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
    **options: Any,
) -> None:
    """Train an adapter on a folder of images.

    Splits the images into training, validation and test parts, trains, keeps the best epoch, and writes one small file
    and a report next to it.
    Ctrl-C ends the training early and keeps the best epoch so far.
    """
    from lensmount_adapters.adapter.backbone_of import backbone_of
    from lensmount_adapters.adapter.file import parse_adapter
    from lensmount_adapters.errors import LensmountError
    from lensmount_adapters.machine import choose_device
    from lensmount_adapters.report.write import write_run_report
    from lensmount_adapters.text.prompts import read_prompts
    from lensmount_adapters.training.config import TrainingConfig
    from lensmount_adapters.training.run_report import context_of
    from lensmount_adapters.training.train_adapter import train as run

    try:
        if options["prompts"] is not None:
            options["prompts"] = read_prompts(options["prompts"])
        config = TrainingConfig(**options)
        if compare is not None:
            parse_adapter(compare.read_bytes())  # a wrong file is refused before the training
        with progress_bar(quiet=json) as listener:
            result = run(config, listener)
        backbone = backbone_of(result.manifest, device=choose_device(config.device))
        written = write_run_report(
            report or config.out.with_name(f"{config.out.stem}-report"),
            result.manifest,
            result.digest,
            result.size_bytes,
            result.scored,
            result.folder.read,
            context_of(result, backbone, compare),
        )
    except LensmountError as error:
        fail(error, json)
    _show_training(result, written, json)


def _show_training(result: TrainingResult, report: list[Path], as_json: bool) -> None:
    from rich.console import Console

    from lensmount_adapters.report.promises import summary
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
            "trust": None if result.manifest.trust is None else result.manifest.trust.model_dump(mode="json"),
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
    if said := summary(result.manifest):
        console.print(f"Trust: {said}", markup=False, soft_wrap=True)
    epochs = result.record["epochs"]
    if result.interrupted:
        console.print(
            f"Interrupted after epoch {epochs['run']} of {epochs['asked']}: the best epoch so far is kept. "
            "Run the same command with --resume to continue.",
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
