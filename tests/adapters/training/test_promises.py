"""A trained file says what its answers are worth, by the images that it was asked to measure with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.adapter.file import parse_adapter
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.data.dataset import digest_of_samples
from lensmount_adapters.errors import DatasetError
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.evaluate import evaluate
from lensmount_adapters.training.promises import wanted_of
from lensmount_adapters.training.train_adapter import Progress, train
from lensmount_adapters.training.training_data import load_training_data
from lensmount_adapters.trust.figures import figures

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawFolder


@pytest.fixture(scope="module")
def many(draw_folder: DrawFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("many") / "shapes", disc=60, bar=60)


@pytest.fixture
def short(config: TrainingConfig, many: Path) -> TrainingConfig:
    return replace(config, data=many, epochs=2, method="head")


def test_a_part_of_its_own_is_recorded_and_measured_and_evaluated_again(
    short: TrainingConfig, backbone: Backbone
) -> None:
    off = train(replace(short, calibration="off", out=short.out.with_name("off.safetensors")), backbone=backbone)
    result = train(
        replace(short, calibration="part", positive="disc", sensitivity=0.8, coverage=0.8), backbone=backbone
    )

    adapter = admit(result.path.read_bytes(), backbone)
    assert adapter.trust is not None
    block, parts = adapter.trust.block, result.record["split"]["parts"]
    assert block.calibration is not None
    assert block.conformal is not None
    assert block.operating is not None
    assert (block.calibration.source, block.calibration.images) == ("part", parts["calibration"]["images"])
    assert block.calibration.temperature == adapter.manifest.head.temperature
    assert block.conformal.images == tuple(parts["calibration"]["classes"][label] for label in ("bar", "disc"))
    assert (block.operating.positive, block.operating.kind) == ("disc", "sensitivity")
    for part in ("validation", "test"):
        assert parts[part] == off.record["split"]["parts"][part]
    assert parts["train"]["images"] + parts["calibration"]["images"] == off.record["split"]["parts"]["train"]["images"]
    for part in ("calibration", "train", "test"):
        again = evaluate(result.path, short.data, split=part, backbone=backbone)  # type: ignore[arg-type]
        assert again.metrics_json["data"]["digest"] == parts[part]["digest"]
    assert result.test is not None
    assert again.metrics == result.test
    assert off.manifest.trust is None
    assert off.record["calibration"] == {"source": None, "why": "calibration is off"}
    with pytest.raises(DatasetError, match=r"no calibration part.*Fix: use --split"):
        evaluate(off.path, short.data, split="calibration", backbone=backbone)


def test_cross_fitting_changes_no_weight_and_no_part(short: TrainingConfig, backbone: Backbone) -> None:
    off = train(replace(short, calibration="off", out=short.out.with_name("off.safetensors")), backbone=backbone)
    heard: set[str] = set()
    result = train(replace(short, calibration="auto"), lambda progress: heard.add(progress.phase), backbone)

    assert heard == {"training", "calibrating"}
    plain, promised = (dict(parse_adapter(path.read_bytes()).tensors) for path in (off.path, result.path))
    learned = {name for name in promised if not name.startswith("trust.")}  # and the statistics of its images
    assert plain.keys() == learned
    assert all(torch.equal(plain[name], promised[name]) for name in learned)
    assert result.record["split"] == off.record["split"]
    assert result.record["history"][0]["loss"] == off.record["history"][0]["loss"]
    assert result.manifest.trust is not None
    assert result.manifest.trust.calibration is not None
    images = result.record["split"]["parts"]["train"]["images"]
    assert (result.manifest.trust.calibration.source, result.manifest.trust.calibration.images) == (
        "cross-fitted",
        images,
    )
    assert result.record["calibration"]["source"] == "cross-fitted"
    assert parse_adapter(result.path.read_bytes()).digest == result.digest
    assert [path.name for path in short.out.parent.iterdir() if "fold" in path.name] == []


def test_the_same_run_makes_the_same_promises_also_after_ctrl_c(
    short: TrainingConfig, backbone: Backbone, tmp_path: Path
) -> None:
    short = replace(short, calibration="cross", mixup=0.2)
    whole = train(replace(short, out=tmp_path / "whole.safetensors"), backbone=backbone)

    def stop(progress: Progress) -> None:
        if progress.phase == "calibrating" and progress.epoch > 1:
            raise KeyboardInterrupt

    halted = train(short, stop, backbone)
    assert halted.interrupted
    assert halted.manifest.trust is None
    assert admit(halted.path.read_bytes(), backbone).trust is None
    resumed = train(replace(short, resume=True), backbone=backbone)
    assert not resumed.interrupted
    assert resumed.manifest.trust == whole.manifest.trust


def test_too_few_images_are_said_and_the_temperature_is_fitted_as_before(
    config: TrainingConfig, backbone: Backbone
) -> None:
    result = train(replace(config, epochs=1, method="head"), backbone=backbone)
    assert result.manifest.trust is None
    assert result.manifest.schema_version == 1
    assert result.record["calibration"]["why"].startswith("too few images: found ")
    assert result.manifest.head.temperature != 1


def test_figures_of_a_part_are_those_of_its_images(short: TrainingConfig, backbone: Backbone) -> None:
    result = train(replace(short, calibration="part"), backbone=backbone)
    again = evaluate(result.path, short.data, split="calibration", backbone=backbone)
    own = figures(again.truth.numpy().astype(np.int64), again.scores.double().numpy())
    assert result.manifest.trust is not None
    assert result.manifest.trust.calibration is not None
    assert result.manifest.trust.calibration.brier == pytest.approx(own.brier.value, abs=0.02)  # scaled fold by fold
    assert again.metrics_json["trust"]["brier"] == pytest.approx(own.brier.value, abs=1e-6)


def test_training_reads_the_images_of_the_split_that_it_records(short: TrainingConfig, backbone: Backbone) -> None:
    data = load_training_data(replace(short, calibration="part"), backbone)
    samples = data.samples("train")
    assert len(samples) == len(data.train)
    assert digest_of_samples(samples) != digest_of_samples(data.samples("calibration"))


def test_a_positive_label_alone_promises_nothing(config: TrainingConfig) -> None:
    assert wanted_of(replace(config, positive="disc")).positive is None
    assert wanted_of(replace(config, positive="disc", specificity=0.9)).positive == "disc"
