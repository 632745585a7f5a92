"""`lensmount recipe`: list the recipes, or carry one out, with a terminal around it."""

from __future__ import annotations

import json as json_format
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lensmount_adapters.cli.terminal import fail, progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from lensmount_adapters.training.train_adapter import Progress

DEFAULT_DATA = Path("../shared/data")


def recipe(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The recipe, or the path of a .toml file of your own.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the recipes and do nothing.")] = False,
    data: Annotated[Path, typer.Option(help="The folder that holds the recipe's folders of images.")] = DEFAULT_DATA,
    out: Annotated[
        Path | None, typer.Option(help="Where adapters, reports and tables go.  (default: recipe-NAME)")
    ] = None,
    runs: Annotated[list[str] | None, typer.Option(help="Only this run; may be given several times.")] = None,
    images: Annotated[list[str] | None, typer.Option(help="Only this image set; may be given several times.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="The backbone's weights: FILE, 'hub' or 'random:SEED'.  (default: as the recipe says)"),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Train each run with the seeds 0 to N-1.")] = 1,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting for all runs: epochs=2, 'augment=\"none\"'."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.  (default: all cores)")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
) -> None:
    """Train what a published system trains, and show our figures beside its own.

    Writes an adapter, a report and a picture of the confusion matrix for each run, and one table. Runs that were
    finished before are not trained again. Without a name, lists the recipes.
    """
    from lensmount_adapters.errors import LensmountError
    from lensmount_adapters.recipe.carry_out import Plan, carry_out
    from lensmount_adapters.recipe.recipe import load_recipe, recipe_names
    from lensmount_adapters.recipe.table import table, write_tables

    try:
        if name is None or list_:
            _show_list({known: load_recipe(known).title for known in recipe_names()}, json)
            return
        found = load_recipe(name)
        folder = out or Path(f"recipe-{found.name}")
        plan = Plan(data, folder, weights, runs or (), images or (), seeds, threads, device, _changes(set_ or []))
        outcomes = carry_out(found, plan, lambda title: _titled(title, quiet=json))
        written = write_tables(folder, found, outcomes)
    except LensmountError as error:
        fail(error, json)
    if json:
        typer.echo(written[1].read_text(encoding="utf-8"))
        return
    typer.echo(f"\n{found.title}\n\n{table(found, outcomes)}\n")
    for path in written:
        typer.echo(f"Wrote {path}")


def _changes(texts: list[str]) -> dict[str, Any]:
    """["epochs=2"] -> {"epochs": 2}; the values are written as in the recipe."""
    from lensmount_adapters.errors import TrainingError

    try:
        return tomllib.loads("\n".join(texts))
    except tomllib.TOMLDecodeError as error:
        raise TrainingError(
            f"found --set {' '.join(texts)!r} ({error}), expected KEY=VALUE as in a recipe, such as epochs=2. "
            "Fix: put text in quotes, 'augment=\"none\"'"
        ) from error


def _show_list(titles: dict[str, str], as_json: bool) -> None:
    if as_json:
        typer.echo(json_format.dumps(titles, indent=2, ensure_ascii=False))
        return
    width = max(map(len, titles), default=0)
    for name, title in titles.items():
        typer.echo(f"{name:{width}}  {title}")


def _titled(title: str, *, quiet: bool) -> AbstractContextManager[Callable[[Progress], None]]:
    from contextlib import contextmanager

    @contextmanager
    def shown() -> Iterator[Callable[[Progress], None]]:
        if not quiet:
            typer.echo(title, err=True)
        with progress_bar(quiet=quiet) as listener:
            yield listener

    return shown()
