"""A run trains on the trunk that it is told to, and its file records what int8 costs on held-out images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lensmount_adapters import Backbone, load_backbone
from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.data.dataset import read_folder
from lensmount_adapters.inputs.rules import Preprocessing
from lensmount_adapters.metrics.calibration import calibration
from lensmount_adapters.metrics.classification import measure
from lensmount_adapters.training import TrainingConfig, train
from lensmount_adapters.training.answer import predict_samples
from lensmount_adapters.training.evaluate import reproduce_split
from lensmount_adapters.training.train_adapter import TrainingResult
from lensmount_adapters.trunks.int8 import Int8Trunks
from lensmount_adapters.trunks.ranges import ranges_of
from lensmount_adapters.trunks.record import INT8_BRANCH, RECORD, costs_nothing

pytest.importorskip("nncf")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    backbone = load_backbone("resnet10t", "random:0")
    backbone.preprocessing = backbone.preprocessing.model_copy(update={"size": (32, 32)})
    return backbone


@pytest.fixture(scope="module")
def trunks(tmp_path_factory: pytest.TempPathFactory) -> Int8Trunks:
    return Int8Trunks(folder=tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="module")
def data(draw_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("data"), discs=24, bars=24)


@pytest.fixture(scope="module")
def run(backbone: Backbone, trunks: Int8Trunks, data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    """Trained on the int8 trunk before layer4."""
    config = TrainingConfig(
        data,
        "discs",
        tmp_path_factory.mktemp("out") / "discs.safetensors",
        backbone="resnet10t",
        targets=r"layer4.*",
        epochs=2,
        test_fraction=0.3,
        group_regex=r"^(.+?_s\d+)",
        precision="float32",
        calibration="off",
        trunk="int8",
    )
    return train(config, backbone=backbone, int8=trunks)


def test_the_record_has_the_figures_of_both_precisions_on_the_test_part(
    run: TrainingResult, backbone: Backbone, trunks: Int8Trunks, data: Path
) -> None:
    record = run.manifest.training[RECORD]
    admitted = admit(run.path.read_bytes(), backbone)
    folder = read_folder(data, r"^(.+?_s\d+)")
    samples = reproduce_split(run.manifest, folder, "test")
    truth = torch.tensor([sample.label for sample in samples])
    plain = load_backbone("resnet10t", "random:0")
    with torch.no_grad():
        for delta in admitted.deltas:
            live = plain.module.get_parameter(delta.target.name)
            live.copy_(delta.merged(live))
    rule = run.manifest.preprocessing
    assert isinstance(rule, Preprocessing)
    scores = predict_samples(folder, samples, rule, lambda x: admitted.scores(plain.features(x)))
    assert record["float32"] == {
        "part": "test",
        "images": len(samples),
        "balanced_accuracy": round(measure(truth, scores, run.manifest.labels).balanced_accuracy, 6),
        "calibration_error": pytest.approx(calibration(truth, scores).error, abs=1e-4),
        "trunk": "",
    }
    assert record["int8"]["balanced_accuracy"] == round(run.test.balanced_accuracy, 6) if run.test else None
    assert record["int8"]["trunk"] == trunks.recipe(backbone, run.manifest.training["trunk"]["cut"])
    lost = record["float32"]["balanced_accuracy"] - record["int8"]["balanced_accuracy"]
    grown = record["int8"]["calibration_error"] - record["float32"]["calibration_error"]
    assert costs_nothing(run.manifest, record["int8"]["trunk"]) is (lost <= 0.003 and grown <= 0.01)


def test_the_run_records_the_ranges_of_its_branch_and_what_they_cost(run: TrainingResult) -> None:
    recipe = run.manifest.training[RECORD]["int8"]["trunk"]
    ranges = ranges_of(run.manifest, recipe)
    assert ranges.keys() == {f"layer4.0.{layer}.weight" for layer in ("conv1", "conv2", "downsample.1")}
    assert all(low < high for low, high in ranges.values())
    figures = run.manifest.training[RECORD][INT8_BRANCH]
    assert (figures["part"], figures["trunk"]) == ("test", recipe)
    assert abs(figures["balanced_accuracy"] - run.manifest.training[RECORD]["int8"]["balanced_accuracy"]) <= 0.1


def test_the_run_records_its_trunk_and_a_float_run_looks_as_it_always_did(run: TrainingResult, data: Path) -> None:
    assert run.manifest.training["hyper_parameters"]["trunk"] == "int8"
    assert "trunk" not in TrainingConfig(data, "x", data / "x.safetensors").hyper_parameters()


def test_the_backbone_is_what_it_was(run: TrainingResult, backbone: Backbone) -> None:
    assert run.manifest.training[RECORD]
    assert backbone.changed() == []
