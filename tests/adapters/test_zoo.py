"""The shipped adapters and their cards."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.adapter.file import parse_adapter
from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.backbone.load import load_backbone
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.cli.evaluate import evaluate
from lensmount_adapters.cli.train import train
from lensmount_adapters.graph.segments import Segments
from lensmount_adapters.training import train_adapter
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.trunks.int8 import Int8Trunks
from lensmount_adapters.trunks.ranges import ranges_of
from lensmount_adapters.trunks.record import INT8_BRANCH, RECORD, costs_nothing

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawFolder

ZOO = Path(__file__).parents[2] / "adapters" / "zoo"
FLOORS = {"malaria": 0.96, "smoking": 0.94, "histology": 0.96}


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone()


@pytest.fixture(scope="module")
def zoo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("zoo_train", ZOO / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", sorted(FLOORS))
def test_a_shipped_adapter_is_admitted_small_and_as_good_as_promised(name: str, backbone: Backbone) -> None:
    data = (ZOO / f"{name}.safetensors").read_bytes()

    adapter = admit(data, backbone)

    assert len(data) <= 2_000_000
    assert adapter.manifest.name == name
    assert adapter.manifest.training["metrics"]["test"]["balanced_accuracy"] >= FLOORS[name]


@pytest.mark.parametrize("name", sorted(FLOORS))
def test_a_card_says_what_the_file_s_own_record_says(name: str, backbone: Backbone) -> None:
    card = (ZOO / f"{name}.md").read_text(encoding="utf-8")
    manifest = admit((ZOO / f"{name}.safetensors").read_bytes(), backbone).manifest

    assert "Research use only" in card
    assert manifest.training["data"]["digest"] in card
    assert f"balanced accuracy **{manifest.training['metrics']['test']['balanced_accuracy']:.3f}**" in card
    assert all(label in card for label in manifest.labels)


def test_the_command_of_a_card_gives_the_config_it_was_made_with(
    zoo: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = TrainingConfig(
        data=Path("DATA/cells"),
        name="cells",
        out=Path("adapters/zoo/cells.safetensors"),
        group_regex=r"^(.*?)_?[tT]hin",
        augment="microscopy",
        size=160,
        learning_rate=1e-3,
        validation_fraction=0.1,
        license="CC BY 4.0 (someone)",
    )
    seen: list[TrainingConfig] = []

    def note(config: TrainingConfig, listener: object) -> None:
        seen.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr(train_adapter, "train", note)
    app = typer.Typer()
    app.command("train")(train)
    app.command("evaluate")(evaluate)
    CliRunner().invoke(app, shlex.split(zoo.command(made))[1:])

    assert seen == [made]


def test_a_card_is_written_from_a_record_alone(zoo: ModuleType, draw_folder: DrawFolder, tmp_path: Path) -> None:
    config = TrainingConfig(
        data=draw_folder(tmp_path / "shapes", disc=20, bar=20),
        name="shapes",
        out=tmp_path / "shapes.safetensors",
        backbone="mobilenetv3_small_050",
        weights="random:0",
        size=32,
        epochs=1,
        precision="fp32",
    )

    result = train_adapter.train(config)

    card = zoo.card(replace(zoo.RECIPES[0], name="shapes"), config, result.manifest, result.size_bytes)

    assert "| test | 6 |" in card
    assert "lensmount train --data DATA/shapes --name shapes" in card


def test_a_shipped_file_gets_promises_afterwards_and_keeps_its_trained_layers(
    zoo: ModuleType, draw_folder: DrawFolder, tmp_path: Path
) -> None:
    config = TrainingConfig(
        data=draw_folder(tmp_path / "shapes", disc=24, bar=24),
        name="shapes",
        out=tmp_path / "shapes.safetensors",
        backbone="mobilenetv3_small_050",
        weights="random:0",
        size=32,
        epochs=1,
        precision="fp32",
        calibration="off",
    )
    before = train_adapter.train(config)
    trained = parse_adapter(config.out.read_bytes()).tensors

    zoo.measure_promises(replace(config, calibration="cross"))

    content = config.out.read_bytes()
    after = parse_adapter(content)
    assert before.manifest.trust is None
    assert all(tensor.equal(after.tensors[name]) for name, tensor in trained.items())
    assert after.manifest.trust is not None
    assert after.manifest.trust.calibration is not None
    assert after.manifest.trust.calibration.source == "cross-fitted"
    card = zoo.card(replace(zoo.RECIPES[0], name="shapes"), config, after.manifest, len(content))
    assert "promises were measured afterwards" in card
    assert "--calibration off" in card


def test_a_record_of_int8_is_of_the_trunk_that_a_server_makes_and_decides_for_auto(backbone: Backbone) -> None:
    allowed = {}
    for path in ZOO.glob("*.safetensors"):
        adapter = admit(path.read_bytes(), backbone)
        at = Segments(backbone.module).halves([delta.target.name for delta in adapter.deltas]).at
        recipe = Int8Trunks().recipe(backbone, at)
        assert adapter.manifest.training[RECORD]["int8"]["trunk"] == recipe, "Fix: adapters/zoo/train.py --precisions"
        allowed[path.stem] = costs_nothing(adapter.manifest, recipe)
        assert costs_nothing(adapter.manifest, recipe, INT8_BRANCH) is allowed[path.stem]
        assert all(low < high for low, high in ranges_of(adapter.manifest, recipe).values())
        assert len(ranges_of(adapter.manifest, recipe)) == 25  # the convolutions from block 4 on
    assert allowed == {"malaria": True, "histology": True, "smoking": False}  # its calibration error grows by 0.013


def test_recording_what_int8_costs_keeps_the_tensors_and_everything_else_of_the_record(
    zoo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (ZOO / "malaria.safetensors").read_bytes()
    (tmp_path / "malaria.safetensors").write_bytes(before)
    monkeypatch.setattr(zoo, "read_samples", lambda *_: (None, []))

    def scored(manifest: Manifest, *_: object) -> Manifest:
        return manifest.model_copy(update={"training": {**manifest.training, RECORD: {"int8": 1}}})

    monkeypatch.setattr(zoo, "scored_in_both", scored)
    zoo.measure_precisions(TrainingConfig(tmp_path, "malaria", tmp_path / "malaria.safetensors"), Int8Trunks())
    old, new = parse_adapter(before), parse_adapter((tmp_path / "malaria.safetensors").read_bytes())
    assert all(tensor.equal(new.tensors[name]) for name, tensor in old.tensors.items())
    assert {**old.manifest.training, RECORD: {"int8": 1}} == new.manifest.training
