"""The training loop: interruption, resuming, early stopping and refused runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lensmount_adapters.adapter.manifest import BatchNormLayer, DropoutLayer, LinearLayer, MlpHead
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.training.checkpoint import checkpoint_path
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.train_adapter import Listener, train

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawFolder

CtrlC = Callable[[int], Listener]
SameTensors = Callable[[Path, Path], bool]


def test_a_resumed_run_ends_with_the_same_bits_as_an_uninterrupted_run(
    config: TrainingConfig, backbone: Backbone, tmp_path: Path, ctrl_c: CtrlC, same_tensors: SameTensors
) -> None:
    head = MlpHead(
        layers=(
            LinearLayer(in_features=backbone.feature_dim, out_features=16),
            BatchNormLayer(features=16),
            DropoutLayer(p=0.3),
            LinearLayer(in_features=16, out_features=2),
        )
    )
    config = replace(config, head=head)
    uninterrupted = train(replace(config, out=tmp_path / "uninterrupted.safetensors"), backbone=backbone)

    interrupted = train(config, ctrl_c(3), backbone)
    resumed = train(replace(config, resume=True), backbone=backbone)

    assert interrupted.interrupted
    assert not resumed.interrupted
    assert without_seconds(resumed.record["history"]) == without_seconds(uninterrupted.record["history"])
    assert same_tensors(resumed.path, uninterrupted.path)
    assert resumed.test == uninterrupted.test


@pytest.mark.parametrize("method", ["lora", "head"])
def test_a_resumed_run_with_cached_views_ends_with_the_same_bits_as_an_uninterrupted_run(
    config: TrainingConfig, backbone: Backbone, tmp_path: Path, method: str, ctrl_c: CtrlC, same_tensors: SameTensors
) -> None:
    config = replace(config, method=method, cache_trunk="on", views=2, epochs=6)
    uninterrupted = train(replace(config, out=tmp_path / "uninterrupted.safetensors"), backbone=backbone)

    train(config, ctrl_c(4), backbone)
    resumed = train(replace(config, resume=True), backbone=backbone)

    assert uninterrupted.record["trunk"]["views"] == 2
    assert uninterrupted.record["trunk"]["cut"]
    assert same_tensors(resumed.path, uninterrupted.path)
    files = {path.name for path in tmp_path.iterdir() if path.name.startswith(config.out.name)}
    assert files == {config.out.name}


def test_a_run_whose_head_is_given_as_text_is_resumed_to_the_same_bits(
    config: TrainingConfig, backbone: Backbone, ctrl_c: CtrlC, same_tensors: SameTensors
) -> None:
    config = replace(config, head="mlp:8")
    train(config, None, backbone)
    other = replace(config, out=config.out.with_name("other.safetensors"))
    train(other, ctrl_c(3), backbone)
    train(replace(other, resume=True), None, backbone)

    assert same_tensors(config.out, other.out)


def test_patience_ends_a_run_that_no_longer_improves(config: TrainingConfig, backbone: Backbone) -> None:
    result = train(replace(config, epochs=30, patience=2, learning_rate=1e-7), backbone=backbone)

    assert result.record["epochs"]["run"] < 30
    assert not result.interrupted
    assert not checkpoint_path(config.out).exists()


def test_ctrl_c_keeps_the_best_epoch_and_the_result_says_so(
    config: TrainingConfig, backbone: Backbone, ctrl_c: CtrlC
) -> None:
    result = train(config, ctrl_c(3), backbone)

    assert result.interrupted
    assert result.path.is_file()
    assert result.record["interrupted"] is True
    assert result.record["epochs"]["run"] == 2
    assert result.record["epochs"]["best"] in (1, 2)
    assert checkpoint_path(config.out).is_file()


def test_ctrl_c_in_the_first_epoch_writes_nothing(config: TrainingConfig, backbone: Backbone, ctrl_c: CtrlC) -> None:
    with pytest.raises(TrainingError, match="nothing is written"):
        train(config, ctrl_c(1), backbone)

    assert not config.out.exists()


def test_without_a_validation_part_the_last_epoch_is_kept(config: TrainingConfig, backbone: Backbone) -> None:
    result = train(replace(config, epochs=2, validation_fraction=0.0, calibration="off"), backbone=backbone)

    assert result.validation is None
    assert result.record["epochs"]["best"] == 2
    assert "validation" not in result.record["metrics"]
    assert result.manifest.head.temperature == 1.0


def test_a_rare_class_counts_as_much_as_a_common_one(
    draw_folder: DrawFolder, config: TrainingConfig, backbone: Backbone, tmp_path: Path
) -> None:
    root = draw_folder(tmp_path / "uneven", disc=40, bar=8)
    config = replace(config, data=root, method="head", epochs=3, average=0.0, augment="none", label_smoothing=0.0)

    balanced = train(config, backbone=backbone).record["history"][0]["loss"]
    plain = train(replace(config, class_weights="none"), backbone=backbone).record["history"][0]["loss"]

    assert abs(balanced - plain) > 1e-3


def test_a_diverging_run_stops_with_a_message_that_says_what_to_do(config: TrainingConfig, backbone: Backbone) -> None:
    with pytest.raises(TrainingError, match=r"lower --lr|not finite|times as large"):
        train(replace(config, learning_rate=1e30, epochs=2), backbone=backbone)


def test_a_batch_of_one_image_is_refused_for_a_head_with_batchnorm(config: TrainingConfig, backbone: Backbone) -> None:
    with pytest.raises(TrainingError, match="a batch of one image for a head with BatchNorm"):
        train(replace(config, head="mlp:8", batch_size=1), None, backbone)


def without_seconds(history: list[dict[str, object]]) -> list[dict[str, object]]:
    return [{key: value for key, value in record.items() if key != "seconds"} for record in history]
