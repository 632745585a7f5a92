"""`lensmount review`: list the labels, images and pairs of a dataset that a person should look at."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lensmount_adapters.cli.made_adapter import file_to_write
from lensmount_adapters.cli.terminal import fail

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from rich.table import Table

    from lensmount_adapters.quality.review import OnProgress, Review

SHOWN = 20  # rows of each table; --json and --out have up to 200


def review(
    data: Annotated[
        Path, typer.Argument(help="A dataset as for `lensmount train`: a folder, a file of labels or a zip.")
    ],
    group_regex: Annotated[
        str | None, typer.Option(help="Regular expression for the patient, slide or source, as for `lensmount train`.")
    ] = None,
    class_depth: Annotated[
        int | None, typer.Option(min=1, max=8, help="How many levels of folders name the class.")
    ] = None,
    backbone: Annotated[str, typer.Option(help="The network whose features are compared.")] = "tf_efficientnet_lite0",
    weights: Annotated[str | None, typer.Option(help="Its weights: FILE, 'hub' or 'random:SEED'.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "cpu",
    out: Annotated[
        Path | None, typer.Option(help="Write a page with thumbnails to this file (.html).", dir_okay=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
) -> None:
    """Find likely wrong labels, outliers, look-alikes, leaks between parts, and shortcuts. Changes nothing.

    The images pass once through the frozen backbone; a logistic head on its features, fitted on other groups, says how
    likely each label is.
    """
    from lensmount_adapters.backbone.load import load_backbone, weights_from
    from lensmount_adapters.data.dataset import read_folder
    from lensmount_adapters.errors import LensmountError
    from lensmount_adapters.inputs.prepare import suffixes_of
    from lensmount_adapters.machine import choose_device
    from lensmount_adapters.quality.review import review_folder
    from lensmount_adapters.report.review_page import write_review_page

    try:
        if out is not None:
            file_to_write(data.name, out, [])  # refused before the work, not after it
        network = load_backbone(backbone, weights_from(weights), choose_device(device))
        folder = read_folder(data, group_regex, suffixes=suffixes_of(network.preprocessing), class_depth=class_depth)
        with _bar(quiet=json) as tell:
            found = review_folder(folder, network, tell)
        if out is not None:
            write_review_page(out, str(data), found.to_json(), folder.read)
    except LensmountError as error:
        fail(error, json)
    if json:
        typer.echo(json_format.dumps(found.to_json(), indent=2, ensure_ascii=False))
    else:
        _show(found, out)


def _bar(*, quiet: bool) -> AbstractContextManager[OnProgress]:
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import Progress

    @contextmanager
    def shown() -> Iterator[OnProgress]:
        with Progress(console=Console(stderr=True), disable=quiet, transient=True) as bar:
            tasks = {phase: bar.add_task(phase, total=None, visible=False) for phase in ("reading", "features")}
            yield lambda phase, done, total: bar.update(tasks[phase], completed=done, total=total, visible=True)

    return shown()


def _show(found: Review, out: Path | None) -> None:
    from rich.console import Console

    console = Console()
    known = (
        "" if found.accuracy is None else f", and the frozen features tell the classes apart in {found.accuracy:.1%}"
    )
    console.print(f"{found.images} images, {found.checked} with a label that can be checked{known}", soft_wrap=True)
    for note in found.notes:
        console.print(f"Note: {note}", style="yellow", markup=False, soft_wrap=True)
    for table in _tables(found):
        console.print(table)
    if out is not None:
        console.print(f"Wrote {out}", markup=False, soft_wrap=True)


def _tables(found: Review) -> Iterator[Table]:
    from rich.table import Table
    from rich.text import Text

    def cell(text: str) -> Text:
        return Text(text, overflow="fold")

    if flagged := [doubt for doubt in found.labels if doubt.flagged]:
        table = Table("image", "label", "likelier", "chance of the label", title=f"{found.flagged} likely wrong labels")
        for doubt in flagged[:SHOWN]:
            table.add_row(cell(doubt.path), cell(doubt.label), cell(doubt.suggested), f"{doubt.quality:.2f}")
        yield table
    if found.outliers:
        table = Table("image", "label", "distance", title=f"{found.outlier_count} images unlike all others")
        for outlier in found.outliers[:SHOWN]:
            table.add_row(cell(outlier.path), cell(outlier.label), f"{outlier.distance:.2f}")
        yield table
    if found.look_alikes:
        table = Table(
            "image", "looks like", "why it matters", title=f"{found.look_alike_count} pairs that show the same"
        )
        for pair in found.look_alikes[:SHOWN]:
            why = [word for word, holds in (("two parts", pair.leak), ("two labels", pair.conflict)) if holds]
            table.add_row(*map(cell, pair.paths), ", ".join(why))
        yield table
