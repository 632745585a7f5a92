"""A table of options becomes a command's flags: types, defaults, ranges and help texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from lensmount_adapters.cli.command_options import with_options
from lensmount_adapters.options.option import Option

OPTIONS = (
    Option("data", "path", "", required=True, help="Where the images are."),
    Option("learning_rate", "float", "Training", flag="--lr", default=0.5, above=0, help="How fast."),
    Option("epochs", "int", "Training", minimum=1, maximum=9, unset="as many as it takes", help="How long."),
    Option("names", "names", "", help="Some names."),
    Option("window", "window", "", help="Two numbers."),
    Option("fast", "bool", "", default=False, help="Hurry."),
)
run = CliRunner()


def asked(*words: str) -> Any:
    """What the command gets for these words; its exit code and text if it refuses them."""
    given: dict[str, Any] = {}
    app = typer.Typer()

    @app.command()
    @with_options(OPTIONS, before="json")
    def command(
        place: Annotated[str, typer.Argument()] = "here",
        json: Annotated[bool, typer.Option("--json")] = False,
        **options: Any,
    ) -> None:
        given.update(options, place=place, json=json)

    result = run.invoke(app, list(words), env={"COLUMNS": "200", "NO_COLOR": "1"})
    return given if result.exit_code == 0 and given else (result.exit_code, result.output)


def test_options_that_are_not_given_have_the_default_of_the_table() -> None:
    assert asked("--data", "cells") == {
        "data": Path("cells"),
        "learning_rate": 0.5,
        "epochs": None,
        "names": None,
        "window": None,
        "fast": False,
        "place": "here",
        "json": False,
    }


def test_given_values_have_the_type_of_the_table() -> None:
    words = "--data cells --lr 0.25 --epochs 9 --names a --names b --window -160 240 --fast --json there"
    assert asked(*words.split()) == {
        "data": Path("cells"),
        "learning_rate": 0.25,
        "epochs": 9,
        "names": ["a", "b"],
        "window": (-160.0, 240.0),
        "fast": True,
        "place": "there",
        "json": True,
    }


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("", "--data"),
        ("--data cells --epochs 10", "Invalid value for '--epochs'"),
        ("--data cells --learning-rate 1", "No such option: --learning-rate"),
    ],
)
def test_a_missing_option_and_a_value_outside_of_the_range_are_refused(words: str, found: str) -> None:
    code, shown = asked(*words.split())
    assert code == 2
    assert found in " ".join(shown.split())


def test_the_help_says_what_happens_without_the_option() -> None:
    _, shown = asked("--help")
    assert "How long.  (default: as many as it takes)" in shown
    assert "Training" in shown
