"""`lensmount adapters compose`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer
from tests.adapters.compose.drawn import adapter, low_rank
from typer.testing import CliRunner

from lensmount_adapters import Backbone, dump_adapter, load_backbone, parse_adapter
from lensmount_adapters.adapter.heads import head_tensors
from lensmount_adapters.cli.compose import compose

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawFolder

app = typer.Typer()
app.command("compose")(compose)
run = CliRunner()
LAYERS = ("layer1.0.conv1", "layer2.0.conv1")


def write(folder: Path, backbone: Backbone, name: str, rank: int, labels: tuple[str, ...]) -> None:
    made = adapter(backbone, name, low_rank(backbone, rank, *LAYERS), labels, training={"weights": "random:0"})
    tensors = {key: tensor for delta in made.deltas for key, tensor in delta.tensors().items()}
    (folder / f"{name}.safetensors").write_bytes(dump_adapter(made.manifest, {**tensors, **head_tensors(made.head)}))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two adapters of one backbone, and one of another."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, load_backbone("test_resnet", "random:0"), "one", 2, ("discs", "bars"))
    write(tmp_path, load_backbone("test_resnet", "random:0"), "two", 3, ("oak", "elm"))
    write(tmp_path, load_backbone("test_resnet", "random:1"), "other", 3, ("oak", "elm"))
    return tmp_path


def test_it_writes_the_weighted_sum_with_the_head_of_the_first(folder: Path) -> None:
    result = run.invoke(app, ["one.safetensors:0.7", "two.safetensors:0.3"])

    assert result.exit_code == 0, result.output
    manifest = parse_adapter((folder / "one-two.safetensors").read_bytes()).manifest
    assert (manifest.name, manifest.labels) == ("one-two", ("discs", "bars"))
    assert {factors.rank for factors in manifest.modules.values()} == {5}
    assert "0.7 x one + 0.3 x two, merged by linear, with the head of one" in result.output


def test_a_method_a_head_a_name_and_a_size_are_chosen(folder: Path) -> None:
    command = ["one.safetensors", "two.safetensors:0.5", "--method", "ties", "--density", "0.2", "--head", "two"]

    result = run.invoke(app, [*command, "--name", "both", "--rank", "2", "--out", "x.safetensors", "--json"])

    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["composed"]["method"] == "ties"
    assert document["composed"]["density"] == 0.2
    assert [entry["weight"] for entry in document["composed"]["adapters"]] == [1.0, 0.5]
    manifest = parse_adapter((folder / "x.safetensors").read_bytes()).manifest
    assert (manifest.name, manifest.labels) == ("both", ("oak", "elm"))
    assert {factors.rank for factors in manifest.modules.values()} == {2}


def test_with_images_it_shows_the_accuracy_before_and_after(folder: Path, draw_folder: DrawFolder) -> None:
    draw_folder(folder / "shapes", discs=4, bars=4)
    command = ["one.safetensors:1", "two.safetensors:0", "--data", "shapes"]

    shown = run.invoke(app, command)
    scripted = run.invoke(app, [*command, "--json"])

    assert shown.exit_code == 0, shown.output
    assert "Accuracy on 8 images" in shown.output
    comparison = json.loads(scripted.stdout)["comparison"]
    assert comparison["images"] == 8
    assert comparison["same_answers"] == 1
    assert comparison["logits_error"] < 1e-5


def test_weights_of_0_leave_the_head_on_the_bare_backbone(folder: Path) -> None:
    result = run.invoke(app, ["one.safetensors:0", "--name", "bare"])

    assert result.exit_code == 0, result.output
    assert parse_adapter((folder / "bare.safetensors").read_bytes()).manifest.method == "head"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["one.safetensors", "none.safetensors:1"], "found no file none.safetensors"),
        (["one.safetensors:nan"], "found the weight nan"),
        (["one.safetensors", "other.safetensors"], "expected one backbone"),
        (
            ["one.safetensors", "--name", "x", "--method", "mean"],
            "found --method 'mean', expected linear, ties or dare",
        ),
        (["one.safetensors", "--name", "x", "--method", "ties", "--density", "2"], "found --density 2"),
        (["one.safetensors", "two.safetensors", "--head", "three"], "found --head 'three', expected one of one, two"),
        (["one.safetensors", "--out", "one.safetensors"], "among the files that are read"),
        (["one.safetensors", "--name", "A"], "found the name 'A'"),
        (["one.safetensors"], "among the files that are read"),
    ],
    ids=str,
)
def test_each_mistake_is_one_line_with_its_fix(folder: Path, arguments: list[str], words: str) -> None:
    before = sorted(folder.iterdir())

    result = run.invoke(app, arguments)

    assert result.exit_code == 1
    assert words in result.output
    assert "Fix: " in result.output
    assert result.output.count("\n") == 1
    assert sorted(folder.iterdir()) == before
