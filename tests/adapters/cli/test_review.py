"""`lensmount review`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from lensmount_adapters.cli.review import review

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawFolder

app = typer.Typer()
app.command("review")(review)
run = CliRunner()
NETWORK = ("--backbone", "test_efficientnet", "--weights", "random:0")


@pytest.fixture
def shapes(draw_folder: DrawFolder, tmp_path: Path) -> Path:
    """Red discs and blue bars; one disc is among the bars, and once more in other bytes."""
    folder = draw_folder(tmp_path / "shapes", disc=16, bar=16)
    disc = next((folder / "disc").iterdir())
    disc.rename(folder / "bar" / "wrong.png")
    return folder


def test_it_prints_notes_and_tables_and_writes_the_page(shapes: Path, tmp_path: Path) -> None:
    result = run.invoke(app, [str(shapes), *NETWORK, "--out", str(tmp_path / "page.html")])

    assert result.exit_code == 0, result.output
    assert "32 images, 32 with a label that can be checked" in result.stdout
    assert "The mean colour tells" in result.stdout
    assert "Wrote" in result.stdout
    assert "<h1>Review of" in (tmp_path / "page.html").read_text()


def test_json_has_the_whole_review(shapes: Path) -> None:
    result = run.invoke(app, [str(shapes), *NETWORK, "--json", "--group-regex", r"s(\d+)|wrong"])

    document = json.loads(result.stdout)
    assert document["images"] == 32
    assert {"labels", "outliers", "look_alikes", "shortcuts", "notes"} <= set(document)


def test_a_folder_that_is_none_is_one_line(tmp_path: Path) -> None:
    result = run.invoke(app, [str(tmp_path / "none"), *NETWORK])

    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "Fix: correct the path" in result.stderr


def test_a_page_in_a_folder_that_is_none_is_refused_before_the_review(shapes: Path, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "page.html"
    command = [str(shapes), *NETWORK, "--out", str(page)]

    refused = run.invoke(app, command)

    assert refused.exit_code == 1
    assert "found no folder" in refused.stderr
    assert "images" not in refused.stdout
    page.parent.mkdir()  # as the advice says
    assert run.invoke(app, command).exit_code == 0
    assert page.is_file()
