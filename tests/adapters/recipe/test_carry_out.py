"""Recipes from end to end on a few images: small, short, and with weights that the test makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import safetensors.torch
import torch
import typer
from torch import nn
from torch.nn import functional as F
from typer.testing import CliRunner

from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.backbone.load import load_backbone
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.cli import recipe as recipe_cli
from lensmount_adapters.data.dataset import read_folder, read_pixels
from lensmount_adapters.errors import AdapterError, BackboneError, DatasetError, TrainingError
from lensmount_adapters.inputs.prepare import normalise
from lensmount_adapters.recipe.carry_out import Plan, RunResult, carry_out
from lensmount_adapters.recipe.recipe import load_recipe, read_recipe, recipes_folder
from lensmount_adapters.training.evaluate import evaluate
from lensmount_adapters.training.train_adapter import Progress

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawFolder

SMALL: dict[str, Any] = {
    "size": 32, "epochs": 2, "batch_size": 8, "precision": "fp32", "cache_trunk": "off", "group_regex": r"^(.+_s\d+)_",
    "validation_fraction": 0.2, "test_fraction": 0.25,
}  # fmt: skip
app = typer.Typer()
app.command("recipe")(recipe_cli.recipe)
run = CliRunner()


@pytest.fixture(scope="module")
def data(draw_folder: DrawFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    draw_folder(root / "malaria-nih", Parasitized=16, Uninfected=16)
    draw_folder(root / "smoking", smoking=16, notsmoking=16)
    return root


@pytest.fixture(scope="module")
def resnet34_weights(draw_folder: DrawFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ResNet34 after a short supervised training on drawn shapes, since its ImageNet weights are on the hub only."""
    folder = tmp_path_factory.mktemp("pretrained")
    backbone = load_backbone("resnet34", "random:0")
    images = read_folder(draw_folder(folder / "shapes", disc=8, bar=8))
    rule = backbone.preprocessing.model_copy(update={"size": (32, 32)})
    x, y = normalise(read_pixels(images, images.samples, rule), rule), images.labels()
    network = nn.Sequential(backbone.module.requires_grad_(True).train(), nn.Linear(512, 2))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(network(x), y).backward()
        optimizer.step()
    path = folder / "resnet34.safetensors"
    tensors = {name: t.detach() for name, t in backbone.module.state_dict().items() if t.is_floating_point()}
    safetensors.torch.save_file(tensors, path)
    return path


@pytest.fixture(scope="module")
def vgg16() -> Backbone:
    return load_backbone("vgg16", "random:0")


@pytest.fixture(scope="module")
def malaria(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[RunResult]]:
    """The folder and the results of the recipe malaria-vgg16: two adapters, and a full fine-tuning."""
    out = tmp_path_factory.mktemp("malaria")
    plan = Plan(data, out, weights="random:0", images=["malaria-nih"], threads=1, changes=SMALL)
    return out, carry_out(load_recipe("malaria-vgg16"), plan)


def test_malaria_trains_its_adapters_and_the_comparison_and_writes_their_reports(
    data: Path, malaria: tuple[Path, list[RunResult]], vgg16: Backbone
) -> None:
    out, results = malaria

    assert [(result.run, result.kind) for result in results] == [
        ("seed", "adapter"), ("lean", "adapter"), ("full", "full"),
    ]  # fmt: skip
    assert [result.trained_parameters for result in results] == [209_154, 77_826, 4_851_970]
    for result in results:
        report = out / f"{result.run}-malaria-nih-s0-report"
        assert (out / result.file).stat().st_size == result.file_bytes
        assert (report / "metrics.png").read_bytes().startswith(b"\x89PNG")
        assert "`lensmount recipe malaria-vgg16`" in (report / "card.md").read_text()
        assert sum(map(sum, result.metrics["confusion"])) == result.metrics["count"] > 0
        assert (result.file_bytes < 1_000_000) == (result.kind == "adapter")
    assert not list(out.glob("*.checkpoint"))
    again = evaluate(out / results[1].file, data / "malaria-nih", backbone=vgg16)
    assert again.metrics.to_json()["accuracy"] == results[1].metrics["accuracy"]


def test_the_file_of_a_full_fine_tuning_holds_the_evaluated_weights_and_is_not_an_adapter(
    malaria: tuple[Path, list[RunResult]], vgg16: Backbone
) -> None:
    out, results = malaria
    (result,) = (result for result in results if result.run == "full")
    stored = safetensors.torch.load_file(out / result.file)
    changed = {name for name in stored if not name.startswith("head.")}
    assert changed == {f"features.{layer}.{part}" for layer in (26, 28) for part in ("weight", "bias")}
    assert all((stored[name].float() - vgg16.tensors[name]).abs().max() > 1e-5 for name in changed)
    with pytest.raises(AdapterError):
        admit((out / result.file).read_bytes(), vgg16)


def test_smoking_runs_on_weights_that_the_test_made_and_is_not_trained_twice(
    data: Path, tmp_path: Path, resnet34_weights: Path
) -> None:
    recipe = load_recipe("smoking-resnet34")
    trained: list[str] = []

    def watch(title: str) -> Any:
        trained.append(title)
        return recipe_cli.titled_progress(title, quiet=True)

    plan = Plan(data, tmp_path, weights=str(resnet34_weights), runs=["seed"], threads=1, changes=SMALL)
    first = carry_out(recipe, plan, watch)
    with (tmp_path / "runs.jsonl").open("a") as file:
        file.write('{"run": "seed", "ki')  # as a crash leaves it
    again = carry_out(recipe, plan, watch)
    carry_out(recipe, Plan(**{**_fields(plan), "changes": SMALL | {"epochs": 1}}), watch)

    assert again == first
    assert trained == ["seed on smoking, seed 0"] * 2, "once, and again with another setting"
    assert first[0].trained_parameters == 464_898
    assert round(first[0].share, 4) == 0.0214
    assert first[0].file_bytes < 1_000_000


def _fields(plan: Plan) -> dict[str, Any]:
    return {name: getattr(plan, name) for name in Plan.__dataclass_fields__}


def test_the_command_prints_our_figures_next_to_those_of_the_source(
    data: Path, tmp_path: Path, resnet34_weights: Path
) -> None:
    words = ["smoking-resnet34", "--data", str(data), "--out", str(tmp_path), "--weights", str(resnet34_weights)]
    words += ["--runs", "head", "--threads", "1", "--seeds", "2"]
    for key, value in (SMALL | {"epochs": 1}).items():
        words += ["--set", f"{key}={json.dumps(value)}"]

    shown = run.invoke(app, words)
    scripted = run.invoke(app, [*words, "--json"])

    assert shown.exit_code == 0, shown.output
    assert "head on smoking, seed 1" in shown.stderr
    assert "| source: LoRA rank 8 on conv1 and conv2 of layer3 and layer4, fc trained |" in shown.stdout
    assert "464,898 | 2.14 %" in shown.stdout
    assert "2 seeds) | " in shown.stdout
    assert (tmp_path / "table.md").read_text().strip() in shown.stdout
    document = json.loads(scripted.stdout)
    assert document == json.loads((tmp_path / "table.json").read_text())
    assert [result["seed"] for result in document["runs"]] == [0, 1]
    assert document["reported"][0]["trained_parameters"] == 464_898


def test_missing_weights_are_reported_with_a_fix(data: Path, tmp_path: Path) -> None:
    text = (recipes_folder() / "smoking-resnet34.toml").read_text()
    (tmp_path / "own.toml").write_text(text.replace('["hub"]', '["nowhere.safetensors"]'))

    with pytest.raises(
        BackboneError, match=r"found none of the weights of own: nowhere.safetensors. Fix: give --weights"
    ):
        carry_out(read_recipe(tmp_path / "own.toml"), Plan(data, tmp_path / "out"))


def test_missing_data_is_reported_before_anything_is_trained(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="malaria-nih-gray50, expected the images"):
        carry_out(load_recipe("malaria-vgg16"), Plan(data, tmp_path / "out", weights="random:0"))

    assert not (tmp_path / "out").exists()


def test_ctrl_c_ends_it_with_one_line_and_records_no_result(data: Path, tmp_path: Path) -> None:
    def press(progress: Progress) -> None:
        if progress.done is not None:
            raise KeyboardInterrupt

    class Watch:
        def __init__(self, title: str) -> None:
            self.title = title

        def __enter__(self) -> Any:
            return press

        def __exit__(self, *error: object) -> None:
            """Nothing to close."""

    plan = Plan(data, tmp_path, weights="random:0", runs=["head"], threads=1, changes=SMALL)
    with pytest.raises(TrainingError, match="interrupted: the finished runs are kept"):
        carry_out(load_recipe("smoking-resnet34"), plan, Watch)

    assert not (tmp_path / "runs.jsonl").exists()
