"""`lensmount datasets ...`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from lensmount_client._cli import pools
from lensmount_client._cli.options import ServerOptions, jsonable, with_options
from lensmount_client._cli.sharing import Public, share_dataset, unshare_dataset
from lensmount_client._cli.terminal import (
    age,
    cell,
    file_size,
    print_json,
    print_line,
    print_note,
    print_table,
)
from lensmount_client._errors import InvalidInput
from lensmount_client._files.dataset_zip import counted
from lensmount_client._show.table import Facts, Table
from lensmount_client._types.datasets import Dataset
from lensmount_client._types.reviews import DatasetReview

app = typer.Typer(no_args_is_help=True)
for name, command in pools.COMMANDS.items():
    app.command(name)(command)

SHOWN_EXAMPLES = 3
SHOWN_ROWS = 20  # of a table; --json has up to 200

Name = Annotated[str, typer.Argument(metavar="NAME", help="The dataset's name on the server.")]
Version = Annotated[int | None, typer.Option("--version", min=1, metavar="N", help="One version only.")]


@app.command()
@with_options
def push(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="A folder with one folder of images for each class; or with a manifest.csv, labels.csv or "
            "manifest.jsonl (path, label, optional group and split) at its top; such a file; or a zip of either.",
        ),
    ],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its name on the server; by default that of the folder.")
    ] = None,
    class_depth: Annotated[
        int | None,
        typer.Option(
            "--class-depth",
            min=1,
            max=8,
            metavar="N",
            help="How many levels of folders name the class: 1 for lung/1.png, 2 for lung/aca/1.png.",
        ),
    ] = None,
    *,
    server: ServerOptions,
) -> None:
    """Upload a dataset and show the server's report on it.

    Uploading the same images again does not make a new version. If an upload is interrupted, the same command
    resumes it.
    """
    with server.client() as client:
        dataset = push_with_a_bar(client.datasets, path, name, class_depth)
    if server.json:
        print_json({**dataset.raw, "left_out": dict(dataset.left_out), "notes": list(dataset.notes)})
    else:
        print_table(described_dataset(dataset))


@app.command("list")
@with_options
def list_datasets(public: Public = False, *, server: ServerOptions) -> None:
    """List the datasets of a server."""
    with server.client() as client:
        datasets = client.datasets.list(public=public)
    if server.json:
        print_json({"datasets": [dataset.raw for dataset in datasets]})
        return
    if not datasets:
        print_line("No datasets yet. Upload one: lensmount datasets push DIR")
        return
    columns = ("name", "version", "images", "classes", "size", "age", "warnings")
    table = Table(*columns, right=["version", "images", "size"])
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
        table.add_row(*texts)
    print_table(table)


@app.command()
@with_options
def show(
    name: Name,
    version: Version = None,
    *,
    server: ServerOptions,
) -> None:
    """Show the server's report on a dataset: counts, sizes, duplicates, warnings."""
    with server.client() as client:
        dataset = client.datasets.get(name, version)
    if server.json:
        print_json(dataset.raw)
    else:
        print_table(described_dataset(dataset))


@app.command()
@with_options
def pull(
    name: Name,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="PATH", help="File or folder; by default NAME.zip here.")
    ] = None,
    version: Version = None,
    *,
    server: ServerOptions,
) -> None:
    """Download a dataset as one zip and check its digest. An existing file is replaced only by a complete new one."""
    with server.client() as client:
        pulled = client.datasets.pull(name, out or Path(), version)
    if server.json:
        print_json(jsonable(pulled) | {"path": str(pulled.path)})
    else:
        print_line(f"{pulled.path}  {file_size(pulled.size_bytes)}  {pulled.digest}")


@app.command()
@with_options
def review(
    name: Name,
    version: Version = None,
    group_regex: Annotated[
        str | None,
        typer.Option(metavar="REGEX", help="Regular expression for the patient, slide or source, as for a job."),
    ] = None,
    *,
    server: ServerOptions,
) -> None:
    """Find likely wrong labels, outliers, look-alikes and shortcuts. Changes nothing; the server keeps the result."""
    with server.client() as client:
        found = client.datasets.review(name, version, progress=True, group_regex=group_regex)
    if server.json:
        print_json({"name": found.name, "version": found.version, "review": found.raw})
    else:
        print_table(described_review(found))


@app.command()
@with_options
def draft(
    name: Name,
    adapter: Annotated[str, typer.Option("--adapter", metavar="NAME", help="The name of the adapter.")],
    version: Version = None,
    *,
    server: ServerOptions,
) -> None:
    """Publish a first draft of an adapter in seconds. A training job replaces it with a better one."""
    with server.client() as client:
        made = client.datasets.draft(name, adapter, version)
    if server.json:
        print_json(made.raw)
        return
    known = made.balanced_accuracy is not None
    accuracy = f"{made.balanced_accuracy:.2f} (cross-validation)" if known else "unknown: a class has a single group"
    facts = Facts()
    facts.add("adapter", f"{made.name}@{made.version}, a first draft")
    facts.add("images", f"{made.images:,}" + (f" ({made.left_out:,} not used)" if made.left_out else ""))
    facts.add("classes", *_shortened([f"{label} {count:,}" for label, count in made.classes.items()], 12))
    facts.add("balanced accuracy", accuracy)
    facts.add("seconds", f"{made.seconds:.1f}")
    print_table(facts)


@app.command()
@with_options
def edit(
    name: Name,
    relabel: Annotated[
        list[str] | None,
        typer.Option("--relabel", metavar="PATH=LABEL", help="Another label for an image; can be repeated."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", metavar="PATH", help="Leave an image out; can be repeated."),
    ] = None,
    version: Version = None,
    *,
    server: ServerOptions,
) -> None:
    """Relabel or exclude images. This makes a new version, and the old one stays."""
    labels = dict(_relabelled(text) for text in relabel or ())
    with server.client() as client:
        dataset = client.datasets.edit(name, labels, exclude or (), version)
    if server.json:
        print_json(dataset.raw)
    else:
        print_table(described_dataset(dataset))


@app.command()
@with_options
def delete(
    name: Name,
    version: Version = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="For good: it cannot be undeleted, and frees its space.")
    ] = False,
    *,
    server: ServerOptions,
) -> None:
    """Delete a dataset with all its versions, or one version of it. `lensmount datasets undelete` takes it back."""
    with server.client() as client:
        client.datasets.delete(name, version, purge=purge)
    if server.json:
        print_json({"deleted": {"name": name, "version": version}})
    else:
        print_line(f"deleted {name}" + (f"@{version}" if version else " with all its versions"))


@app.command()
@with_options
def undelete(
    name: Name,
    version: Version = None,
    *,
    server: ServerOptions,
) -> None:
    """Undo the latest delete of a dataset, or that of one version."""
    with server.client() as client:
        dataset = client.datasets.undelete(name, version)
    if server.json:
        print_json(dataset.raw)
    else:
        print_line(f"{name}: version {version or dataset.version} is back")


def push_with_a_bar(datasets: Any, path: Path, name: str | None, class_depth: int | None = None) -> Dataset:
    """Push a dataset. Ctrl-C prints that the upload can be resumed."""
    try:
        pushed: Dataset = datasets.push(path, name, progress=True, class_depth=class_depth)
    except KeyboardInterrupt:
        print_note("Stopped. The same command resumes the upload.")
        raise
    return pushed


def described_dataset(dataset: Dataset) -> RenderableType:
    """The report as a table, and the warnings below it."""
    report, raw = dataset.report, dataset.report.raw
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
        ("duplicates", *_counted(report.duplicates, "files", _pairs(raw, "duplicates"))),
        ("near-duplicates", *_counted(report.near_duplicates, "pairs", _pairs(raw, "near_duplicates"))),
        ("unreadable", *_counted(report.unreadable, "files", _reasons(raw))),
        ("ignored", *_counted(report.ignored, "files", map(str, _examples(raw, "ignored")))),
        ("not sent", counted(dataset.left_out)),
        ("notes", *dict.fromkeys((*dataset.notes, *report.notes))),
    ]
    facts = Facts()
    for row in rows:
        facts.add(*row)
    warnings = [
        Text.assemble(("warning:", "yellow"), " ", cell(f"{warning.message} ({warning.code})"))
        for warning in report.warnings
    ]
    return Group(facts, *warnings)


def described_review(found: DatasetReview) -> RenderableType:
    """The notes, then the flagged labels, the outliers and the pairs, as tables of at most 20 rows."""
    tables: list[RenderableType] = [
        Text(f"{found.name}@{found.version}: {found.images:,} images, {found.flagged:,} likely wrong labels"),
        *(Text.assemble(("note:", "yellow"), " ", cell(note)) for note in found.notes),
    ]
    if flagged := [doubt for doubt in found.labels if doubt.flagged][:SHOWN_ROWS]:
        table = Table("image", "label", "likelier", "chance of the label", title="likely wrong labels")
        for doubt in flagged:
            table.add_row(doubt.path, doubt.label, doubt.suggested, f"{doubt.quality:.2f}")
        tables.append(table)
    if found.outliers:
        table = Table("image", title="unlike all others")
        for path in found.outliers[:SHOWN_ROWS]:
            table.add_row(path)
        tables.append(table)
    if found.look_alikes:
        table = Table("image", "looks like", "why it matters", title="pairs that are alike")
        for pair in found.look_alikes[:SHOWN_ROWS]:
            why = [word for word, holds in (("two parts", pair.leak), ("two labels", pair.conflict)) if holds]
            table.add_row(*pair.paths, ", ".join(why))
        tables.append(table)
    return Group(*tables)


def _relabelled(text: str) -> tuple[str, str]:
    path, sign, label = text.rpartition("=")
    if not sign or not path:
        raise InvalidInput(f"--relabel: found {text[:80]!r}, expected PATH=LABEL. Fix: --relabel cat/1.png=dog")
    return path, label


def _counted(count: int, unit: str, examples: Iterable[str]) -> list[str]:
    return [f"{count:,} {unit if count > 1 else unit[:-1]}, for example", *examples] if count else []


app.command("share")(share_dataset)
app.command("unshare")(unshare_dataset)


def _examples(raw: Any, key: str) -> list[Any]:
    examples = _object(raw, key).get("examples")
    return examples[:SHOWN_EXAMPLES] if isinstance(examples, list) else []


def _pairs(raw: Any, key: str) -> list[str]:
    return [" = ".join(map(str, pair)) for pair in _examples(raw, key) if isinstance(pair, list)]


def _reasons(raw: Any) -> list[str]:
    return [f"{e.get('path')}: {e.get('reason')}" for e in _examples(raw, "unreadable") if isinstance(e, dict)]


def _pixels(sizes: Any) -> str:
    """{"min": [w, h], "median": [w, h], "max": [w, h]} as "100 x 96 to 148 x 151, median 124 x 121"."""
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
