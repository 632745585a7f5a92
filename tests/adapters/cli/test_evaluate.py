"""`lensmount evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from lensmount_adapters.cli.evaluate import evaluate
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.train_adapter import train

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawFolder

app = typer.Typer()
app.command("evaluate")(evaluate)
run = CliRunner()


@pytest.fixture(scope="module")
def shapes(draw_folder: DrawFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("shapes") / "shapes", disc=20, bar=20)


def test_it_shows_the_metrics_of_the_recorded_test_part_and_writes_the_report(shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "shapes.safetensors"
    result = train(
        TrainingConfig(
            shapes,
            "shapes",
            out,
            backbone="mobilenetv3_small_050",
            weights="random:0",
            size=32,
            epochs=2,
            batch_size=8,
            precision="fp32",
            threads=1,
        )
    )
    recorded = result.record["metrics"]["test"]

    shown = run.invoke(app, [str(out), "--data", str(shapes), "--out", str(tmp_path / "report")])
    scripted = run.invoke(app, [str(out), "--data", str(shapes), "--json"])

    assert shown.exit_code == 0, shown.output
    assert f"balanced accuracy {recorded['balanced_accuracy']:.4f}" in shown.stdout.replace("\n", " ")
    assert (tmp_path / "report" / "metrics.png").is_file()
    assert json.loads(scripted.stdout)["metrics"] == recorded
    assert "Expected calibration error 0." in shown.stdout
    assert "wanted" not in json.loads(scripted.stdout)

    words = [str(out), "--data", str(shapes), "--split", "all", "--positive", "disc"]
    thresholds = ["--specificity", "0.8", "--accept-accuracy", "0.8", "--coverage", "0.8"]
    asked = run.invoke(app, [*words, *thresholds, "--out", str(tmp_path / "asked")])
    assert asked.exit_code == 0, asked.output
    written = json.loads((tmp_path / "asked" / "metrics.json").read_text())["wanted"]
    assert [written[kind]["promised"] for kind in ("sets", "accepted", "point")] == [0.8, 0.8, {"specificity": 0.8}]
    assert "With thresholds of three quarters of these images" in asked.stdout
    assert "Accepted at 80 %: " in asked.stdout
    assert "disc as positive: sensitivity " in asked.stdout
    for wrong, expected in (
        (["--positive=cat", "--specificity=0.8"], "one of bar, disc"),
        (["--coverage=2"], "less than"),
        (["--prevalence=0.02"], "Fix: --positive disc, or leave --prevalence out"),
    ):
        refused = run.invoke(app, [*words[:5], *wrong])
        assert refused.exit_code
        assert expected in refused.stderr
    for advised in (["--prevalence=0.02", "--positive=disc"], []):
        assert run.invoke(app, [*words[:5], *advised]).exit_code == 0


def test_an_unknown_part_is_one_line_on_the_error_stream(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").touch()

    result = run.invoke(app, [str(tmp_path / "x.safetensors"), "--data", str(tmp_path), "--split", "tset"])

    assert result.exit_code == 1
    assert result.stderr.startswith(
        "Error: found --split 'tset', expected test, validation, train, calibration or all."
    )


def test_the_help_names_the_required_options() -> None:
    result = run.invoke(app, ["--help"])

    assert result.exit_code == 0
    assert "--data" in result.output
    assert "Folder with one folder of images per label" in " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize("prevalence", ["0", "1", "2", "-0.1"])
def test_a_prevalence_that_is_no_share_is_refused_before_anything_is_read(prevalence: str, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").touch()
    arguments = [str(tmp_path / "x.safetensors"), "--data", str(tmp_path), "--prevalence", prevalence]

    result = run.invoke(app, arguments)

    assert result.exit_code != 0
    assert "safetensors library" not in result.stderr  # the file itself was not looked at
