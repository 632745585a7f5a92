"""`lensmount zero-shot` writes an adapter from a file of texts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from lensmount_adapters.cli.zero_shot import zero_shot
from lensmount_adapters.training.evaluate import evaluate

app = typer.Typer()
app.command("zero-shot")(zero_shot)
run = CliRunner()


@pytest.fixture(scope="module")
def folder(make_clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def shapes(draw_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("shapes") / "shapes", disc=24, bar=24)


def test_the_command_writes_an_adapter_from_a_file_of_texts(folder: Path, shapes: Path, tmp_path: Path) -> None:
    words = tmp_path / "prompts.toml"
    words.write_text('templates = ["a photo of {}."]\n[classes]\ndisc = ["a disc"]\nbar = ["a bar"]\n')
    out = tmp_path / "shapes.safetensors"
    arguments = ["--prompts", str(words), "--name", "shapes", "--out", str(out), "--weights", str(folder)]

    shown = run.invoke(app, arguments)
    document = json.loads(run.invoke(app, [*arguments, "--json"]).stdout)

    assert shown.exit_code == 0, shown.output
    assert f"Wrote {out} (" in shown.stdout
    assert document["labels"] == ["disc", "bar"]
    assert evaluate(out, shapes, split="all").metrics.count == 48
