"""`lensmount adapters extract`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import safetensors.torch
import torch
import typer
from tests.adapters.extract.tuned_networks import LABELS, tuned
from typer.testing import CliRunner

from lensmount_adapters import load_backbone, parse_adapter
from lensmount_adapters.cli.extract import extract

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawFolder

app = typer.Typer()
app.command("extract")(extract)
run = CliRunner()
BASE = ["--base", "test_resnet", "--weights", "random:0"]
NAMES = ["--labels", ",".join(LABELS)]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as timm's training script writes it."""
    path = tmp_path_factory.mktemp("tuned") / "Model best!.pth.tar"
    state = {
        f"module.{name}": tensor
        for name, tensor in tuned(load_backbone("test_resnet", "random:0")).state_dict().items()
    }
    torch.save({"arch": "test_resnet", "state_dict": state, "state_dict_ema": state, "epoch": 3}, path)
    return path


def test_it_writes_an_adapter_with_the_name_of_the_file_and_says_what_it_lost(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    result = run.invoke(app, [str(network), "--weights", "random:0", *NAMES, "--rank", "2"])

    assert result.exit_code == 0, result.output
    manifest = parse_adapter((tmp_path / "model-best.safetensors").read_bytes()).manifest
    assert (manifest.name, manifest.labels) == ("model-best", LABELS)
    assert manifest.training["weights"] == "random:0"
    shown = result.output.replace("\n", " ")
    assert "The layers that lose most" in shown
    assert "'module.' in front of" in shown
    assert "Note: took 'state_dict'; 'state_dict_ema' is there too: --key state_dict_ema" in shown
    assert "Wrote model-best.safetensors" in shown


def test_with_images_it_compares_the_answers_of_the_network_and_the_adapter(
    network: Path, tmp_path: Path, draw_folder: DrawFolder
) -> None:
    data = draw_folder(tmp_path / "shapes", discs=4, bars=4, rings=4)
    out = tmp_path / "a.safetensors"
    command = [str(network), *BASE, *NAMES, "--energy", "1", "--file-dtype", "float32", "--out", str(out)]

    shown = run.invoke(app, [*command, "--data", str(data)])
    scripted = run.invoke(app, [*command, "--data", str(data), "--json"])

    assert shown.exit_code == 0, shown.output
    assert "100.00% of the answers are the same" in shown.output.replace("\n", " ")
    document = json.loads(scripted.stdout)
    assert document["comparison"]["images"] == 12
    assert document["comparison"]["same_answers"] == 1
    assert document["comparison"]["logits_error"] < 1e-5
    assert document["comparison"]["before"] == document["comparison"]["after"] | {
        "log_loss": document["comparison"]["before"]["log_loss"]
    }
    assert len(document["layers"]) == len(load_backbone("test_resnet", "random:0").tensors)


def test_labels_come_from_a_file_with_one_in_each_line(network: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("\ufeffa, b\nc\nd\n", "utf-8")
    out = tmp_path / "a.safetensors"

    result = run.invoke(
        app, [str(network), *BASE, "--labels", str(tmp_path / "labels.txt"), "--rank", "1", "--out", str(out)]
    )

    assert result.exit_code == 0, result.output
    assert parse_adapter(out.read_bytes()).manifest.labels == ("a, b", "c", "d")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (NAMES, "found no size of the adapter, expected one of --rank, --energy and --max-bytes"),
        ([*NAMES, "--rank", "1", "--energy", "0.9"], "found --rank and --energy, expected one"),
        ([*NAMES, "--rank", "0"], "found --rank 0, expected at least 1"),
        ([*NAMES, "--rank", "1", "--file-dtype", "int8"], "found --file-dtype 'int8'"),
        ([*NAMES, "--rank", "1", "--name", "My Model"], "found the name 'My Model'"),
        ([*NAMES, "--rank", "1", "--key", "nothing"], "expected the state dict 'nothing'"),
        ([*NAMES, "--rank", "1", "--out", "no/folder/a.safetensors"], "found no folder no/folder"),
        (["--rank", "1"], "a classifier of 3 classes and no names for them"),
        ([*NAMES, "--max-bytes", "10"], "Fix: --max-bytes"),
    ],
    ids=str,
)
def test_each_wrong_option_is_one_line_with_its_fix(
    network: Path, options: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    result = run.invoke(app, [str(network), *BASE, *options])

    assert result.exit_code == 1
    assert words in result.output
    assert "Fix: " in result.output
    assert result.output.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_network_s_own_file_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = tuned(load_backbone("test_resnet", "random:0")).state_dict()
    safetensors.torch.save_file(state, "model.safetensors")
    before = Path("model.safetensors").read_bytes()

    for finetuned in ("model.safetensors", "."):
        refused = run.invoke(app, [finetuned, *BASE, *NAMES, "--rank", "1", "--out", "model.safetensors"])
        assert refused.exit_code == 1
        assert "among the files that are read" in refused.output
    advised = run.invoke(app, ["model.safetensors", *BASE, *NAMES, "--rank", "1", "--out", "model-new.safetensors"])

    assert advised.exit_code == 0, advised.output
    assert Path("model.safetensors").read_bytes() == before


def test_a_file_that_does_not_say_its_network_asks_for_it(tmp_path: Path) -> None:
    torch.save(tuned(load_backbone("test_resnet", "random:0")).state_dict(), tmp_path / "weights.pth")

    result = run.invoke(app, [str(tmp_path / "weights.pth"), "--rank", "1", *NAMES, "--out", str(tmp_path / "a")])

    assert result.exit_code == 1
    assert "weights.pth: found no name of a network in it" in result.output
    assert "Fix: --base NAME" in result.output
