"""`lensmount datasets ...`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lensmount_client._cli.options import DEFAULT_URL, Insecure, Json, Token, Url, jsonable, open_client
from lensmount_client._cli.terminal import (
    age,
    cell,
    file_size,
    print_json,
    print_line,
    print_note,
    print_table,
)
from lensmount_client._files.dataset_zip import counted
from lensmount_client._types.datasets import Dataset

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Upload folders of labelled images to train on, and look at what the server found in them.",
)

SHOWN_EXAMPLES = 3

Name = Annotated[str, typer.Argument(metavar="NAME", help="The dataset's name on the server.")]
Version = Annotated[int | None, typer.Option("--version", min=1, metavar="N", help="One version only.")]


@app.command()
def push(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="A folder with one folder of images for each class; or with a manifest.csv, labels.csv or "
            "manifest.jsonl (path, label, optional group and split) at its top; or a zip of either.",
        ),
    ],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its name on the server; by default that of the folder.")
    ] = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    insecure: Insecure = False,
) -> None:
    """Upload a dataset and show what the server found in it.

    The same images twice are one version. An upload that broke off goes on where it was when the command is
    given again.
    """
    with open_client(url, token, insecure) as client:
        dataset = push_with_a_bar(client.datasets, path, name)
    if json:
        print_json({**dataset.raw, "left_out": dict(dataset.left_out)})
    else:
        print_table(described_dataset(dataset))


@app.command("list")
def list_datasets(json: Json = False, url: Url = DEFAULT_URL, token: Token = None, insecure: Insecure = False) -> None:
    """List the datasets of a server."""
    with open_client(url, token, insecure) as client:
        datasets = client.datasets.list()
    if json:
        print_json({"datasets": [dataset.raw for dataset in datasets]})
        return
    if not datasets:
        print_line("no datasets yet: lensmount datasets push DIR")
        return
    table = Table("name", "version", "images", "classes", "size", "age", "warnings")
    for dataset in datasets:
        texts = (
            dataset.name,
            str(dataset.version),
            f"{dataset.images:,}",
            ", ".join(_shortened([f"{label} {count:,}" for label, count in dataset.classes.items()], 4)),
            file_size(dataset.size_bytes),
            age(dataset.created_at),
            ", ".join(warning.code for warning in dataset.report.warnings),
        )
        table.add_row(*map(cell, texts))
    print_table(table)


@app.command()
def show(
    name: Name,
    version: Version = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    insecure: Insecure = False,
) -> None:
    """Show what the server found in a dataset: counts, sizes, duplicates, warnings."""
    with open_client(url, token, insecure) as client:
        dataset = client.datasets.get(name, version)
    if json:
        print_json(dataset.raw)
    else:
        print_table(described_dataset(dataset))


@app.command()
def pull(
    name: Name,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="PATH", help="File or folder; by default NAME.zip here.")
    ] = None,
    version: Version = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    insecure: Insecure = False,
) -> None:
    """Download a dataset as one zip and check its digest. An existing file is replaced only by a whole new one."""
    with open_client(url, token, insecure) as client:
        pulled = client.datasets.pull(name, out or Path(), version)
    if json:
        print_json(jsonable(pulled) | {"path": str(pulled.path)})
    else:
        print_line(f"{pulled.path}  {file_size(pulled.size_bytes)}  {pulled.digest}")


@app.command()
def delete(
    name: Name,
    version: Version = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    insecure: Insecure = False,
) -> None:
    """Delete a dataset with all its versions, or one version of it."""
    with open_client(url, token, insecure) as client:
        client.datasets.delete(name, version)
    if json:
        print_json({"deleted": {"name": name, "version": version}})
    else:
        print_line(f"deleted {name}" + (f"@{version}" if version else " with all its versions"))


def push_with_a_bar(datasets: Any, path: Path, name: str | None) -> Dataset:
    """Ctrl-C says that nothing is lost."""
    try:
        pushed: Dataset = datasets.push(path, name, progress=True)
    except KeyboardInterrupt:
        print_note("stopped; the same command goes on with the upload where it was")
        raise
    return pushed


def described_dataset(dataset: Dataset) -> RenderableType:
    """The report as a table, and below it what should be looked at."""
    report, raw = dataset.report, dataset.report.raw
    table = Table(show_header=False)
    rows: list[tuple[str, ...]] = [
        ("dataset", dataset.reference),
        ("digest", dataset.digest),
        ("size", file_size(dataset.size_bytes)),
        ("images", f"{dataset.images:,}"),
        ("classes", *_shortened([f"{label} {count:,}" for label, count in dataset.classes.items()], 12)),
        ("groups", f"{raw['groups']:,}" if raw.get("groups") else ""),
        ("given split", ", ".join(f"{part} {count:,}" for part, count in (report.splits or {}).items())),
        ("pixels", _pixels(raw.get("sizes"))),
        ("formats", ", ".join(f"{kind} {count:,}" for kind, count in _object(raw, "formats").items())),
        ("duplicates", *_found(report.duplicates, "files", _pairs(raw, "duplicates"))),
        ("near-duplicates", *_found(report.near_duplicates, "pairs", _pairs(raw, "near_duplicates"))),
        ("unreadable", *_found(report.unreadable, "files", _reasons(raw))),
        ("ignored", *_found(report.ignored, "files", map(str, _examples(raw, "ignored")))),
        ("not sent", counted(dataset.left_out)),
    ]
    for word, *lines in rows:
        if any(lines):
            table.add_row(cell(word), Text("\n", overflow="fold").join(map(cell, lines)))
    warnings = [
        Text.assemble(("warning", "yellow"), " ", cell(f"{warning.message} ({warning.code})"))
        for warning in report.warnings
    ]
    return Group(table, *warnings)


def _found(count: int, unit: str, examples: Iterable[str]) -> list[str]:
    return [f"{count:,} {unit if count != 1 else unit[:-1]}, such as", *examples] if count else []


def _examples(raw: Any, key: str) -> list[Any]:
    examples = _object(raw, key).get("examples")
    return examples[:SHOWN_EXAMPLES] if isinstance(examples, list) else []


def _pairs(raw: Any, key: str) -> list[str]:
    return [" = ".join(map(str, pair)) for pair in _examples(raw, key) if isinstance(pair, list)]


def _reasons(raw: Any) -> list[str]:
    return [f"{e.get('path')}: {e.get('reason')}" for e in _examples(raw, "unreadable") if isinstance(e, dict)]


def _pixels(sizes: Any) -> str:
    """{"min": [w, h], "median": [w, h], "max": [w, h]} as "100 x 96 to 148 x 151, half below 124 x 121"."""
    try:
        least, middle, most = ("{} x {}".format(*sizes[word]) for word in ("min", "median", "max"))
    except (TypeError, KeyError, IndexError):
        return ""
    return least if least == most else f"{least} to {most}, median {middle}"


def _object(raw: Any, key: str) -> dict[str, Any]:
    value = raw.get(key)
    return value if isinstance(value, dict) else {}


def _shortened(words: list[str], most: int) -> list[str]:
    return [*words[:most], f"and {len(words) - most} more"] if len(words) > most else words
