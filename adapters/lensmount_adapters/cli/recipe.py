"""`lensmount recipe`: list the recipes, or carry one out."""

from __future__ import annotations

import json as json_format
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lensmount_adapters.cli.command_options import with_options
from lensmount_adapters.cli.terminal import fail, progress_bar
from lensmount_adapters.options.option import Option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from lensmount_adapters.training.train_adapter import Progress

OPTIONS = (
    Option("data", "path", "", default="../shared/data", help="The folder with the recipe's folders of images."),
    Option("out", "path", "", unset="recipe-NAME", help="Folder for adapters, reports and tables."),
    Option("runs", "names", "", help="Train only this run; can be given several times."),
    Option("images", "names", "", help="Train only on this image set; can be given several times."),
    Option(
        "weights",
        "str",
        "",
        unset="as the recipe says",
        help="The backbone's weights: FILE, 'hub' or 'random:SEED'.",
    ),
    Option("seeds", "int", "", default=1, minimum=1, help="Train each run with the seeds 0 to N-1."),
    Option(
        "changes",
        "names",
        "",
        flag="--set",
        metavar="KEY=VALUE",
        help="Change a setting for all runs: epochs=2, 'augment=\"none\"'.",
    ),
    Option("device", "str", "", default="auto", help="cpu, cuda, or auto."),
    Option("threads", "int", "", minimum=1, unset="all cores", help="CPU threads."),
)


@with_options(OPTIONS, before="json")
def recipe(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The recipe's name, or the path of a .toml file.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the recipes and do nothing else.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
    **options: Any,
) -> None:
    """Reproduce a published system, and show our figures next to the published ones.

    Writes an adapter, a report and a plot of the confusion matrix for each run, and one table. Runs that are already
    finished are not trained again. Without a name, lists the recipes.
    """
    from lensmount_adapters.errors import LensmountError
    from lensmount_adapters.recipe.carry_out import Plan, carry_out
    from lensmount_adapters.recipe.recipe import load_recipe, recipe_names
    from lensmount_adapters.recipe.table import table, write_tables

    try:
        if name is None or list_:
            _show_list({known: load_recipe(known).title for known in recipe_names()}, json)
            return
        chosen = load_recipe(name)
        plan = Plan(
            options.pop("data"),
            options.pop("out") or Path(f"recipe-{chosen.name}"),
            runs=options.pop("runs") or (),
            images=options.pop("images") or (),
            changes=_changes(options.pop("changes") or []),
            **options,
        )
        results = carry_out(chosen, plan, lambda title: titled_progress(title, quiet=json))
        written = write_tables(plan.out, chosen, results)
    except LensmountError as error:
        fail(error, json)
    if json:
        typer.echo(written[1].read_text(encoding="utf-8"))
        return
    typer.echo(f"\n{chosen.title}\n\n{table(chosen, results)}\n")
    for note in dict.fromkeys(note for result in results for note in result.metrics.get("notes", ())):
        typer.echo(f"Note: {note}")
    for path in written:
        typer.echo(f"Wrote {path}")


def _changes(texts: list[str]) -> dict[str, Any]:
    """["epochs=2"] -> {"epochs": 2}; values are written as in a recipe."""
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


def titled_progress(title: str, *, quiet: bool) -> AbstractContextManager[Callable[[Progress], None]]:
    """Print the title of a run and show a progress bar below it."""
    from contextlib import contextmanager

    @contextmanager
    def shown() -> Iterator[Callable[[Progress], None]]:
        if not quiet:
            typer.echo(title, err=True)
        with progress_bar(quiet=quiet) as listener:
            yield listener

    return shown()
