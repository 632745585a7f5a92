"""`lensmount train`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from lensmount_adapters.adapter.file import parse_adapter
from lensmount_adapters.adapter.manifest import MlpHead
from lensmount_adapters.cli import terminal
from lensmount_adapters.cli.train import train
from lensmount_adapters.training.train_adapter import Progress

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawFolder

app = typer.Typer()
app.command("train")(train)
run = CliRunner()

SMALL = ["--backbone=mobilenetv3_small_050", "--weights=random:0", "--size=32", "--epochs=2", "--batch-size=8"]
SMALL += ["--precision=fp32", "--threads=1"]


@pytest.fixture(scope="module")
def shapes(draw_folder: DrawFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("shapes") / "shapes", disc=20, bar=20)


def test_it_writes_the_file_and_shows_epochs_metrics_and_the_path(shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "shapes.safetensors"

    result = run.invoke(app, ["--data", str(shapes), "--name", "shapes", "--out", str(out), *SMALL])

    assert result.exit_code == 0, result.output
    assert out.is_file()
    assert "epoch   2  loss" in result.stderr
    assert "balanced accuracy" in result.stdout
    assert f"Wrote {out}" in result.stdout
    assert "epoch 1 of 2" in result.stdout or "epoch 2 of 2" in result.stdout


def test_it_prints_one_json_document_for_scripts(shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "shapes.safetensors"

    result = run.invoke(app, ["--data", str(shapes), "--name", "shapes", "--out", str(out), *SMALL, "--json"])

    document = json.loads(result.stdout)
    assert document["path"] == str(out)
    assert document["digest"].startswith("sha256:")
    assert document["record"]["metrics"]["test"]["count"] > 0


def test_head_and_initial_spread_can_be_chosen(shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "shapes.safetensors"
    arguments = ["--data", str(shapes), "--name", "shapes", "--out", str(out), *SMALL, "--json"]

    result = run.invoke(app, [*arguments, "--head", "mlp:8", "--init-std", "0.01"])

    settings = json.loads(result.stdout)["record"]["hyper_parameters"]
    assert (settings["head"], settings["init_std"]) == ("mlp:8", 0.01)
    head = parse_adapter(out.read_bytes()).manifest.head
    assert isinstance(head, MlpHead)
    assert [layer.type for layer in head.layers] == ["linear", "batch_norm", "leaky_relu", "dropout", "linear"]


@pytest.mark.parametrize(
    ("option", "found"),
    [
        ("--head=tree", "found head 'tree'"),
        ("--head=text", "found head text without prompts"),
        ("--prompts=nowhere.toml", "found no prompts in nowhere.toml"),
        ("--init-std=0", "init-std 0.0"),
    ],
)
def test_an_unknown_head_and_a_spread_of_zero_are_refused(
    shapes: Path, tmp_path: Path, option: str, found: str
) -> None:
    out = tmp_path / "shapes.safetensors"

    result = run.invoke(app, ["--data", str(shapes), "--name", "shapes", "--out", str(out), *SMALL, option])

    assert result.exit_code == 1
    assert found in result.stderr


def test_an_error_is_one_line_on_the_error_stream_and_exit_1(tmp_path: Path) -> None:
    arguments = ["--data", str(tmp_path / "nowhere"), "--name", "x", "--out", str(tmp_path / "x.safetensors")]

    plain = run.invoke(app, arguments + SMALL)
    scripted = run.invoke(app, [*arguments, *SMALL, "--json"])

    assert plain.exit_code == scripted.exit_code == 1
    assert plain.stderr.startswith("Error: ")
    assert "found no folder" in plain.stderr
    assert json.loads(scripted.stdout)["error"]["code"] == "dataset_invalid"


def test_ctrl_c_keeps_the_best_epoch_so_far_and_says_how_to_continue(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press_ctrl_c(progress: Progress) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(terminal, "epoch_line", press_ctrl_c)
    out = tmp_path / "shapes.safetensors"

    result = run.invoke(app, ["--data", str(shapes), "--name", "shapes", "--out", str(out), *SMALL])

    assert result.exit_code == 0, result.output
    assert "Interrupted after epoch 1 of 2" in result.stdout
    assert "--resume" in result.stdout
    assert out.is_file()


def test_the_help_names_the_required_options() -> None:
    result = run.invoke(app, ["--help"])

    assert result.exit_code == 0
    assert "--data" in result.output
    assert "a folder with one subfolder per class" in " ".join(result.output.replace("│", " ").split())


def test_it_says_in_one_line_what_the_file_promises_or_why_it_promises_nothing(shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "shapes.safetensors"
    words = ["--data", str(shapes), "--name", "shapes", "--out", str(out), *SMALL, "--method=head"]

    few = run.invoke(app, words)
    assert "Trust: This file does not promise how often its answers are right: too few images: found" in few.stdout
    crossed = run.invoke(app, [*words, "--calibration=cross", "--positive=disc", "--sensitivity=0.8", "--json"])
    assert crossed.exit_code == 0, crossed.output
    trust = json.loads(crossed.stdout)["trust"]
    assert trust["calibration"]["source"] == "cross-fitted"
    assert trust["operating"]["positive"] == "disc"
    card = (tmp_path / "shapes-report" / "card.md").read_text()
    assert "## disc as the positive result" in card
    assert "## What single answers are worth" in card

    refused = run.invoke(app, [*words, "--sensitivity=0.8"])
    assert refused.exit_code != 0
    assert "without positive, expected both" in " ".join(refused.stderr.split())
