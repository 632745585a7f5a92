"""`lensmount recipe` lists the recipes, and says in one line what it refuses. recipe/test_carry_out.py runs it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from lensmount_adapters.cli import recipe as recipe_cli

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawFolder


app = typer.Typer()
app.command("recipe")(recipe_cli.recipe)
run = CliRunner()


@pytest.fixture(scope="module")
def data(draw_folder: DrawFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    draw_folder(root / "malaria-nih", Parasitized=16, Uninfected=16)
    draw_folder(root / "smoking", smoking=16, notsmoking=16)
    return root


@pytest.mark.parametrize("words", [[], ["--list"]])
def test_without_a_name_it_lists_the_recipes_with_one_line_each(words: list[str]) -> None:
    result = run.invoke(app, words)

    assert result.exit_code == 0
    listed = [line.split()[0] for line in result.stdout.splitlines()]
    assert {"histology-plip", "malaria-vgg16", "smoking-resnet34"} <= set(listed)
    assert listed == sorted(listed)


REFUSED = {
    "an unknown recipe": (["nothing"], "found no recipe 'nothing'"),
    "no data": (["smoking-resnet34", "--data", "nowhere"], "Fix: give --data DIR, where DIR holds smoking/"),
    "no weights": (["smoking-resnet34", "--weights", "nowhere.safetensors"], "found no weights file"),
    "an unknown run": (
        ["smoking-resnet34", "--runs", "best"],
        "found no run of smoking-resnet34 'best', expected seed",
    ),
    "an unknown set": (["smoking-resnet34", "--images", "cats"], "found no image set of smoking-resnet34 'cats'"),
    "an unknown setting": (["smoking-resnet34", "--weights=random:0", "--set", "epoch=1"], "found setting 'epoch'"),
    "a bare word": (["smoking-resnet34", "--set", "augment=none"], "Fix: put text in quotes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_recipe_is_one_line_with_a_fix(case: str, data: Path, tmp_path: Path) -> None:
    words, message = REFUSED[case]
    words = words if "--data" in words else [*words, "--data", str(data)]

    result = run.invoke(app, [*words, "--out", str(tmp_path / "out")])

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_notes_on_the_data_are_printed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs = [SimpleNamespace(metrics={"notes": ["2 of 8 mask(s) are blank"]})] * 2 + [SimpleNamespace(metrics={})]
    monkeypatch.setattr("lensmount_adapters.recipe.carry_out.carry_out", lambda *_: runs)
    monkeypatch.setattr("lensmount_adapters.recipe.table.table", lambda *_: "a table")
    monkeypatch.setattr("lensmount_adapters.recipe.table.write_tables", lambda *_: [tmp_path / "table.md"])

    result = run.invoke(app, ["nuclei-unet", "--data", str(tmp_path)])

    assert result.exit_code == 0, result.output
    assert [line for line in result.stdout.splitlines() if "blank" in line] == ["Note: 2 of 8 mask(s) are blank"]
