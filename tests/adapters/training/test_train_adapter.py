"""Train one adapter, from an image folder to its file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lensmount_adapters.adapter.file import parse_adapter
from lensmount_adapters.backbone.fingerprint import tensor_digest
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.data.dataset import digest_of_samples, read_folder
from lensmount_adapters.errors import DatasetError, TrainingError
from lensmount_adapters.training.checkpoint import checkpoint_path
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.evaluate import evaluate
from lensmount_adapters.training.train_adapter import Progress, train

SameTensors = Callable[[Path, Path], bool]
SLIDES = r"^(.+_s\d+)_"


def test_an_adapter_trained_on_drawn_shapes_classifies_them(config: TrainingConfig, backbone: Backbone) -> None:
    seen: list[Progress] = []

    result = train(replace(config, epochs=10), seen.append, backbone)

    assert result.test is not None
    assert result.test.balanced_accuracy >= 0.9
    assert parse_adapter(result.path.read_bytes()).digest == result.digest
    assert [p.epoch for p in seen if p.done] == list(range(1, 11))
    assert seen[-1].done is not None
    assert seen[-1].done.loss < 0.7 * seen[seen[0].steps - 1].loss
    assert not checkpoint_path(config.out).exists()


def test_a_dora_adapter_is_trained_resumed_and_written_with_row_scales(
    config: TrainingConfig, backbone: Backbone, tmp_path: Path, same_tensors: SameTensors
) -> None:
    def stop(progress: Progress) -> None:
        if progress.done and progress.epoch == 1:
            raise KeyboardInterrupt

    dora = replace(config, method="dora", epochs=2)
    whole = train(replace(dora, out=tmp_path / "whole.safetensors"), backbone=backbone)
    assert train(dora, stop, backbone).interrupted
    resumed = train(replace(dora, resume=True), backbone=backbone)

    file = parse_adapter(resumed.path.read_bytes())
    assert same_tensors(whole.path, resumed.path)
    assert file.manifest.schema_version == resumed.manifest.schema_version == 2
    scales = {name: tensor for name, tensor in file.tensors.items() if name.endswith(".weight.row_scale")}
    assert len(scales) == len(file.manifest.modules)
    assert all(tensor.dtype is torch.float32 for tensor in scales.values())
    assert not any(torch.equal(tensor, torch.ones_like(tensor)) for tensor in scales.values())


def test_factors_too_small_for_float16_are_kept_in_float32_and_the_result_says_so(
    config: TrainingConfig, backbone: Backbone
) -> None:
    result = train(replace(config, epochs=1, learning_rate=1e-6), backbone=backbone)

    file = parse_adapter(result.path.read_bytes())
    kept = {name for name, tensor in file.tensors.items() if tensor.dtype is torch.float32}
    assert kept
    assert all(name.endswith("lora_B.weight") for name in kept)
    assert result.notes[-1].startswith(f"{len(kept)} tensors are stored as float32 and not as float16, in which ")
    assert file.manifest.training["kept_float32"] == result.notes[-1]


def test_the_resident_backbone_has_the_same_bits_before_and_after(config: TrainingConfig, backbone: Backbone) -> None:
    before = {name: tensor_digest(tensor) for name, tensor in backbone.module.state_dict().items()}

    train(replace(config, epochs=1, method="lora+norm"), backbone=backbone)

    assert {name: tensor_digest(tensor) for name, tensor in backbone.module.state_dict().items()} == before
    assert backbone.changed() == []


def test_the_same_config_gives_the_same_tensors_and_another_seed_gives_others(
    config: TrainingConfig, backbone: Backbone, tmp_path: Path, same_tensors: SameTensors
) -> None:
    config = replace(config, epochs=2, mixup=0.2)
    paths = [train(replace(config, out=tmp_path / f"{i}.safetensors"), backbone=backbone).path for i in range(2)]
    other = train(replace(config, seed=1, out=tmp_path / "other.safetensors"), backbone=backbone).path

    assert same_tensors(*paths)
    assert not same_tensors(paths[0], other)


def test_training_leaves_the_global_generator_and_the_thread_count_alone(
    config: TrainingConfig, backbone: Backbone
) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()

    train(replace(config, epochs=1), backbone=backbone)

    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_cached_views_train_as_well_as_fresh_ones(config: TrainingConfig, backbone: Backbone) -> None:
    config = replace(config, epochs=8, method="head")

    cached = train(replace(config, cache_trunk="on", views=4), backbone=backbone)
    fresh = train(replace(config, cache_trunk="off"), backbone=backbone)

    assert fresh.record["trunk"]["views"] == 0
    assert cached.record["history"][0]["loss"] == pytest.approx(fresh.record["history"][0]["loss"], abs=0.3)
    assert cached.record["history"][-1]["loss"] < cached.record["history"][0]["loss"]


def test_a_file_records_that_orientations_are_averaged_and_is_evaluated_that_way(
    config: TrainingConfig, backbone: Backbone
) -> None:
    result = train(replace(config, orientations=8, epochs=2), backbone=backbone)

    rule = parse_adapter(result.path.read_bytes()).manifest.preprocessing
    assert rule.orientations == 8
    evaluation = evaluate(result.path, config.data, split="test", backbone=backbone)
    assert result.test is not None
    assert evaluation.metrics == result.test


def test_auto_records_its_trials_and_trains_the_method_it_chose(config: TrainingConfig, backbone: Backbone) -> None:
    heard: set[str] = set()

    result = train(
        replace(config, auto=True, max_file_bytes=40_000, epochs=3),
        lambda progress: heard.add(progress.phase),
        backbone,
    )

    trials = result.record["trials"]
    assert {"searching", "training"} <= heard
    assert len(trials) >= 2
    chosen = {key: result.record["hyper_parameters"][key] for key in ("method", "rank", "targets")}
    assert chosen in [{key: trial[key] for key in chosen} for trial in trials]
    assert result.size_bytes < 60_000
    assert [path.name for path in config.out.parent.iterdir()] == [config.out.name]


def test_a_resumed_run_keeps_the_trials_and_the_choice_of_auto(config: TrainingConfig, backbone: Backbone) -> None:
    config = replace(config, auto=True, max_file_bytes=40_000)

    def press_ctrl_c(progress: Progress) -> None:
        if progress.phase == "training" and progress.epoch == 3:
            raise KeyboardInterrupt

    interrupted = train(config, press_ctrl_c, backbone)
    heard: set[str] = set()
    resumed = train(replace(config, resume=True), lambda progress: heard.add(progress.phase), backbone)

    assert heard == {"training"}
    assert resumed.record["trials"] == interrupted.record["trials"] != []
    assert resumed.record["hyper_parameters"] == interrupted.record["hyper_parameters"]


def test_the_record_has_everything_that_is_needed_to_repeat_the_run(config: TrainingConfig, backbone: Backbone) -> None:
    result = train(replace(config, epochs=2), backbone=backbone)
    record = result.record
    folder = read_folder(config.data, SLIDES)

    assert record["data"]["digest"] == folder.digest
    assert record["data"]["classes"] == {"bar": 24, "disc": 24}
    parts = record["split"]["parts"]
    assert sum(part["images"] for part in parts.values()) == 48
    assert record["split"]["groups"] == 24
    assert sum(part["groups"] for part in parts.values()) == 24
    assert len({part["digest"] for part in parts.values()} | {digest_of_samples(folder.samples)}) == 4
    assert record["hyper_parameters"]["learning_rate"] == 1e-2
    assert record["hyper_parameters"]["augmentation"]["orientations"] == 2
    assert record["epochs"]["run"] == len(record["history"]) == 2
    assert record["seconds"] > 0
    assert record["versions"]["torch"] == torch.__version__
    assert record["trainable_parameters"] == sum(t.numel() for t in tensors_of(result.path).values())
    assert record["metrics"]["test"]["count"] == parts["test"]["images"]
    assert json.loads(result.manifest.dump())["training"] == record


def test_the_recorded_test_metrics_are_those_of_the_file_read_back(config: TrainingConfig, backbone: Backbone) -> None:
    result = train(replace(config, epochs=2), backbone=backbone)

    again = evaluate(result.path, config.data, split="test", backbone=backbone)

    assert again.metrics == result.test
    assert {tensor.dtype for tensor in tensors_of(result.path).values()} == {torch.float16}


def test_few_shots_train_on_this_many_images_per_class_and_keep_the_test_part(
    config: TrainingConfig, backbone: Backbone
) -> None:
    all_images = train(replace(config, epochs=1), backbone=backbone).record["split"]["parts"]
    few = train(replace(config, epochs=1, shots=3), backbone=backbone).record["split"]["parts"]

    assert few["train"]["classes"] == {"bar": 3, "disc": 3}
    assert few["test"] == all_images["test"]


def test_a_missing_folder_for_the_result_is_reported_before_training(
    config: TrainingConfig, backbone: Backbone, tmp_path: Path
) -> None:
    seen: list[Progress] = []
    with pytest.raises(TrainingError, match="no folder"):
        train(replace(config, out=tmp_path / "nowhere" / "x.safetensors"), seen.append, backbone)
    with pytest.raises(TrainingError, match="something else than a file"):
        train(replace(config, out=tmp_path), seen.append, backbone)
    assert seen == []


def test_training_in_bfloat16_learns_too(config: TrainingConfig, backbone: Backbone) -> None:
    result = train(replace(config, precision="bf16", epochs=8), backbone=backbone)

    assert result.record["precision"] == "bfloat16"
    assert result.test is not None
    assert result.test.balanced_accuracy >= 0.9


def test_unreadable_data_are_refused_before_training(
    config: TrainingConfig, backbone: Backbone, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError):
        train(replace(config, data=tmp_path / "nowhere"), backbone=backbone)


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    return dict(parse_adapter(path.read_bytes()).tensors)
