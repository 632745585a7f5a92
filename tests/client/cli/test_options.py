"""Flags that come from dataclasses are the same for typer as flags that a command lists itself."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from lensmount_client._cli.options import ServerOptions, with_options


@dataclass(frozen=True)
class Size:
    width: Annotated[int, typer.Option("--width", "-w", min=1, help="Pixels from left to right.")]
    height: Annotated[int, typer.Option(envvar="HEIGHT")] = 2


def test_each_field_of_a_dataclass_is_a_flag_and_the_command_gets_the_dataclass() -> None:
    calls = []
    app = typer.Typer()

    @app.command()
    @with_options
    def draw(name: Annotated[str, typer.Argument()], twice: bool = False, *, size: Size) -> None:
        """Draw a rectangle."""
        calls.append((name, twice, size))

    run = CliRunner().invoke
    assert run(app, ["a", "-w", "3"]).exit_code == 0
    assert run(app, ["b", "--twice", "--width", "4", "--height", "5"]).exit_code == 0
    assert run(app, ["c", "-w", "3"], env={"HEIGHT": "6"}).exit_code == 0
    assert calls == [("a", False, Size(3, 2)), ("b", True, Size(4, 5)), ("c", False, Size(3, 6))]
    assert run(app, ["d"]).exit_code == 2  # a field without a default is required
    assert run(app, ["e", "-w", "0"]).exit_code == 2
    shown = run(app, ["--help"]).output
    assert "Draw a rectangle." in shown
    assert "Pixels from left to right." in shown


def test_flags_keep_the_order_of_the_source() -> None:
    @with_options
    def draw(name: str, *, size: Size, colour: str = "red") -> None: ...

    assert list(inspect.signature(draw).parameters) == ["name", "width", "height", "colour"]


def test_a_command_line_to_copy_names_the_server_only_if_it_has_to(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ServerOptions().url_flag == ""
    assert ServerOptions(url="http://gpu-box:8000").url_flag == " --url http://gpu-box:8000"
    monkeypatch.setenv("LENSMOUNT_URL", "http://gpu-box:8000")
    assert ServerOptions(url="http://gpu-box:8000").url_flag == ""
