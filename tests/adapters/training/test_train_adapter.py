"""Train one adapter, from an image folder to its file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lensmount_adapters.adapter.file import parse_adapter
from lensmount_adapters.adapter.manifest import BatchNormLayer, DropoutLayer, LinearLayer, MlpHead
from lensmount_adapters.backbone.fingerprint import tensor_digest
from lensmount_adapters.backbone.load import load_backbone
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.data.dataset import digest_of_samples, read_folder
from lensmount_adapters.errors import DatasetError, TrainingError
from lensmount_adapters.training.checkpoint import checkpoint_path
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.evaluate import evaluate
from lensmount_adapters.training.precision import choose_precision
from lensmount_adapters.training.schedule import (
    EpochRecord,
    automatic_epochs,
    fit_temperature,
    has_stalled,
    is_best_so_far,
    learning_rate_at,
)
from lensmount_adapters.training.train_adapter import Progress, train

SLIDES = r"^(.+_s\d+)_"


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("mobilenetv3_small_050", "random:0")


@pytest.fixture(scope="module")
def shapes(draw_folder, tmp_path_factory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("shapes") / "shapes", disc=24, bar=24)


@pytest.fixture
def config(shapes: Path, tmp_path: Path) -> TrainingConfig:
    return TrainingConfig(
        data=shapes,
        name="shapes",
        out=tmp_path / "shapes.safetensors",
        backbone="mobilenetv3_small_050",
        weights="random:0",
        epochs=4,
        batch_size=8,
        size=32,
        rank=4,
        learning_rate=1e-2,
        group_regex=SLIDES,
        validation_fraction=0.2,
        test_fraction=0.2,
        precision="fp32",
        threads=1,
    )


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    return dict(parse_adapter(path.read_bytes()).tensors)


def same_tensors(one: Path, other: Path) -> bool:
    a, b = tensors_of(one), tensors_of(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class CtrlC:
    """Presses Ctrl-C in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def __call__(self, progress: Progress) -> None:
        if progress.epoch == self.epoch and progress.step == 2:
            raise KeyboardInterrupt


def test_a_folder_of_shapes_becomes_a_file_that_tells_them_apart(config: TrainingConfig, backbone: Backbone) -> None:
    seen: list[Progress] = []

    result = train(replace(config, epochs=10), seen.append, backbone)

    assert result.test is not None
    assert result.test.balanced_accuracy >= 0.9
    assert parse_adapter(result.path.read_bytes()).digest == result.digest
    assert [p.epoch for p in seen if p.done] == list(range(1, 11))
    assert seen[-1].done is not None
    assert seen[-1].done.loss < 0.7 * seen[seen[0].steps - 1].loss
    assert not checkpoint_path(config.out).exists()


def test_the_resident_backbone_has_the_same_bits_before_and_after(config: TrainingConfig, backbone: Backbone) -> None:
    before = {name: tensor_digest(tensor) for name, tensor in backbone.module.state_dict().items()}

    train(replace(config, epochs=1, method="lora+norm"), backbone=backbone)

    assert {name: tensor_digest(tensor) for name, tensor in backbone.module.state_dict().items()} == before
    assert backbone.changed() == []


def test_the_same_config_gives_the_same_tensors_and_another_seed_gives_others(
    config: TrainingConfig, backbone: Backbone, tmp_path: Path
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


def test_a_resumed_run_ends_where_the_undisturbed_run_ends(
    config: TrainingConfig, backbone: Backbone, tmp_path: Path
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
    undisturbed = train(replace(config, out=tmp_path / "undisturbed.safetensors"), backbone=backbone)

    broken_off = train(config, CtrlC(epoch=3), backbone)
    resumed = train(replace(config, resume=True), backbone=backbone)

    assert broken_off.interrupted
    assert not resumed.interrupted
    assert without_seconds(resumed.record["history"]) == without_seconds(undisturbed.record["history"])
    assert same_tensors(resumed.path, undisturbed.path)
    assert resumed.test == undisturbed.test


@pytest.mark.parametrize("method", ["lora", "head"])
def test_a_resumed_run_with_kept_views_ends_where_the_undisturbed_run_ends(
    config: TrainingConfig, backbone: Backbone, tmp_path: Path, method: str
) -> None:
    config = replace(config, method=method, cache_trunk="on", views=2, epochs=6)
    undisturbed = train(replace(config, out=tmp_path / "undisturbed.safetensors"), backbone=backbone)

    train(config, CtrlC(epoch=4), backbone)
    resumed = train(replace(config, resume=True), backbone=backbone)

    assert undisturbed.record["trunk"]["views"] == 2
    assert undisturbed.record["trunk"]["cut"]
    assert same_tensors(resumed.path, undisturbed.path)
    left = {path.name for path in tmp_path.iterdir() if path.name.startswith(config.out.name)}
    assert left == {config.out.name}


def test_kept_views_learn_as_fresh_ones_do(config: TrainingConfig, backbone: Backbone) -> None:
    config = replace(config, epochs=8, method="head")

    kept = train(replace(config, cache_trunk="on", views=4), backbone=backbone)
    fresh = train(replace(config, cache_trunk="off"), backbone=backbone)

    assert fresh.record["trunk"]["views"] == 0
    assert kept.record["history"][0]["loss"] == pytest.approx(fresh.record["history"][0]["loss"], abs=0.3)
    assert kept.record["history"][-1]["loss"] < kept.record["history"][0]["loss"]


def test_the_file_of_one_who_averages_orientations_says_so_and_is_judged_so(
    config: TrainingConfig, backbone: Backbone
) -> None:
    result = train(replace(config, orientations=8, epochs=2), backbone=backbone)

    rule = parse_adapter(result.path.read_bytes()).manifest.preprocessing
    assert rule.orientations == 8
    evaluation = evaluate(result.path, config.data, split="test", backbone=backbone)
    assert result.test is not None
    assert evaluation.metrics == result.test


def test_patience_ends_a_run_that_has_stalled(config: TrainingConfig, backbone: Backbone) -> None:
    result = train(replace(config, epochs=30, patience=2, learning_rate=1e-7), backbone=backbone)

    assert result.record["epochs"]["run"] < 30
    assert not result.interrupted
    assert not checkpoint_path(config.out).exists()


def test_auto_says_what_it_tried_and_trains_what_it_chose(config: TrainingConfig, backbone: Backbone) -> None:
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


def test_a_resumed_run_keeps_what_auto_chose_and_what_it_tried(config: TrainingConfig, backbone: Backbone) -> None:
    config = replace(config, auto=True, max_file_bytes=40_000)

    def leave(progress: Progress) -> None:
        if progress.phase == "training" and progress.epoch == 3:
            raise KeyboardInterrupt

    broken_off = train(config, leave, backbone)
    heard: set[str] = set()
    resumed = train(replace(config, resume=True), lambda progress: heard.add(progress.phase), backbone)

    assert heard == {"training"}
    assert resumed.record["trials"] == broken_off.record["trials"] != []
    assert resumed.record["hyper_parameters"] == broken_off.record["hyper_parameters"]


def test_auto_needs_something_to_compare_on(config: TrainingConfig) -> None:
    with pytest.raises(TrainingError, match="auto without a validation part"):
        replace(config, auto=True, validation_fraction=0)


def test_ctrl_c_keeps_the_best_so_far_and_says_so(config: TrainingConfig, backbone: Backbone) -> None:
    result = train(config, CtrlC(epoch=3), backbone)

    assert result.interrupted
    assert result.path.is_file()
    assert result.record["interrupted"] is True
    assert result.record["epochs"]["run"] == 2
    assert result.record["epochs"]["best"] in (1, 2)
    assert checkpoint_path(config.out).is_file()


def test_ctrl_c_in_the_first_epoch_writes_nothing(config: TrainingConfig, backbone: Backbone) -> None:
    with pytest.raises(TrainingError, match="nothing is written"):
        train(config, CtrlC(epoch=1), backbone)

    assert not config.out.exists()


def test_resuming_with_another_setting_names_it(config: TrainingConfig, backbone: Backbone) -> None:
    train(config, CtrlC(epoch=2), backbone)

    with pytest.raises(TrainingError, match=r"learning_rate = 0\.01, expected 0\.02"):
        train(replace(config, resume=True, learning_rate=0.02), backbone=backbone)


def test_resuming_without_or_from_a_damaged_checkpoint_is_refused(config: TrainingConfig, backbone: Backbone) -> None:
    with pytest.raises(TrainingError, match="no checkpoint"):
        train(replace(config, resume=True), backbone=backbone)
    checkpoint_path(config.out).write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="damaged"):
        train(replace(config, resume=True), backbone=backbone)


def test_the_record_holds_what_it_takes_to_repeat_the_run(config: TrainingConfig, backbone: Backbone) -> None:
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


@pytest.mark.parametrize(
    ("accuracies", "images", "kept"),
    [
        ([0.80, 0.90, 0.90], 100, 3),  # a tie goes to the later epoch
        ([0.80, 0.90, 0.88], 100, 3),  # one standard error of 0.90 on 100 images is 0.03
        ([0.80, 0.90, 0.86], 100, 2),
        ([0.80, 0.90, 0.88], 10_000, 2),  # and 0.003 on 10,000
        ([0.95, 0.80, 0.90, 0.94], 100, 4),
        ([1.0, 0.99], 100, 1),  # a perfect epoch leaves no doubt
        ([None, None], 0, 2),
    ],
)
def test_the_latest_epoch_within_one_standard_error_of_the_best_is_kept(accuracies, images, kept):
    history = [EpochRecord(n, 0.5, 0.5, None, accuracy) for n, accuracy in enumerate(accuracies, start=1)]

    best = [n for n in range(1, len(history) + 1) if is_best_so_far(history[:n], images)]
    assert best[-1] == kept


def test_without_a_validation_part_the_last_epoch_is_kept(config: TrainingConfig, backbone: Backbone) -> None:
    result = train(replace(config, epochs=2, validation_fraction=0.0), backbone=backbone)

    assert result.validation is None
    assert result.record["epochs"]["best"] == 2
    assert "validation" not in result.record["metrics"]
    assert result.manifest.head.temperature == 1.0


def test_few_shots_train_on_so_many_images_and_keep_the_test_part(config: TrainingConfig, backbone: Backbone) -> None:
    whole = train(replace(config, epochs=1), backbone=backbone).record["split"]["parts"]
    few = train(replace(config, epochs=1, shots=3), backbone=backbone).record["split"]["parts"]

    assert few["train"]["classes"] == {"bar": 3, "disc": 3}
    assert few["test"] == whole["test"]


def test_a_rare_class_weighs_as_much_as_a_common_one(
    draw_folder, config: TrainingConfig, backbone: Backbone, tmp_path: Path
) -> None:
    root = draw_folder(tmp_path / "uneven", disc=40, bar=8)
    config = replace(config, data=root, method="head", epochs=3, average=0.0, augment="none", label_smoothing=0.0)

    balanced = train(config, backbone=backbone).record["history"][0]["loss"]
    plain = train(replace(config, class_weights="none"), backbone=backbone).record["history"][0]["loss"]

    assert abs(balanced - plain) > 1e-3


def test_a_diverging_run_stops_with_a_cure(config: TrainingConfig, backbone: Backbone) -> None:
    with pytest.raises(TrainingError, match=r"lower --lr|not finite|times as large"):
        train(replace(config, learning_rate=1e30, epochs=2), backbone=backbone)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Big Name"}, "found name 'Big Name'"),
        ({"rank": 0}, "rank 0"),
        ({"epochs": 0}, "0 epochs"),
        ({"learning_rate": 0.0}, "learning rate"),
        ({"precision": "int4"}, "'int4'"),
        ({"file_dtype": "int8"}, "'int8'"),
        ({"method": "magic"}, "'magic'"),
        ({"augment": "satellite"}, "'satellite'"),
        ({"augmentation": {"wings": 2}}, "wings"),
        ({"resize": "stretch"}, "'stretch'"),
        ({"class_weights": "some"}, "'some'"),
    ],
)
def test_a_config_that_cannot_work_is_refused_at_once(
    config: TrainingConfig, change: dict[str, object], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        replace(config, **change)


def test_a_folder_that_does_not_exist_for_the_result_is_said_before_training(
    config: TrainingConfig, backbone: Backbone, tmp_path: Path
) -> None:
    seen: list[Progress] = []
    with pytest.raises(TrainingError, match="no folder"):
        train(replace(config, out=tmp_path / "nowhere" / "x.safetensors"), seen.append, backbone)
    assert seen == []


def test_bfloat16_is_taken_only_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    cost = {torch.float32: 13, torch.bfloat16: 10}
    now = [0.0]
    monkeypatch.setattr("lensmount_adapters.training.precision.time.perf_counter", lambda: now[0])

    def step(dtype: torch.dtype) -> None:
        next(clock)
        now[0] += cost[dtype]

    assert choose_precision("auto", step) is torch.bfloat16
    cost[torch.float32] = 11
    assert choose_precision("auto", step) is torch.float32
    used = next(clock)
    assert choose_precision("bf16", step) is torch.bfloat16
    assert next(clock) == used + 1  # asked for: nothing is measured


def test_bfloat16_training_learns_as_well(config: TrainingConfig, backbone: Backbone) -> None:
    result = train(replace(config, precision="bf16", epochs=8), backbone=backbone)

    assert result.record["precision"] == "bfloat16"
    assert result.test is not None
    assert result.test.balanced_accuracy >= 0.9


def test_the_learning_rate_warms_up_linearly_and_falls_along_half_a_cosine() -> None:
    rates = [learning_rate_at(step, 100, 1.0, 0.1) for step in range(100)]

    assert rates[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] == pytest.approx((1 + np.cos(np.pi * 89 / 90)) / 2)
    assert learning_rate_at(0, 1, 1.0, 0.1) == 1.0


def test_few_images_are_seen_more_often() -> None:
    assert [automatic_epochs(steps) for steps in (1, 4, 6, 25, 1000)] == [100, 25, 17, 12, 12]


def test_the_temperature_found_is_the_one_that_was_put_in() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20_000, 3, generator=generator) * 2
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)

    assert fit_temperature(logits * 2.5, labels) == pytest.approx(2.5, rel=0.05)


def test_twenty_right_answers_are_no_proof_of_certainty() -> None:
    labels = torch.tensor([0, 1] * 10)
    logits = torch.nn.functional.one_hot(labels, 2).float() * 4

    confidence = (logits / fit_temperature(logits, labels)).softmax(1).amax(1)
    assert confidence.tolist() == pytest.approx([11 / 12] * 20, abs=0.01)


def test_data_that_cannot_be_read_never_starts_a_run(
    config: TrainingConfig, backbone: Backbone, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError):
        train(replace(config, data=tmp_path / "nowhere"), backbone=backbone)


@pytest.mark.parametrize(
    ("accuracies", "patience", "stalled"),
    [
        ([0.5, 0.6, 0.7], 2, False),
        ([0.7, 0.6, 0.7], 2, True),
        ([0.7, 0.6], 2, False),
        ([0.7, 0.6, 0.5, 0.8], 2, False),
        ([0.7, 0.6, 0.5, 0.4], None, False),
    ],
)
def test_a_run_has_stalled_when_its_last_epochs_brought_nothing(
    accuracies: list[float], patience: int | None, stalled: bool
) -> None:
    history = [EpochRecord(i, 0.1, 0.9, 0.1, accuracy) for i, accuracy in enumerate(accuracies, start=1)]

    assert has_stalled(history, patience) is stalled


def without_seconds(history: list[dict[str, object]]) -> list[dict[str, object]]:
    return [{key: value for key, value in record.items() if key != "seconds"} for record in history]


def test_one_image_a_batch_is_refused_for_a_head_with_batchnorm(config: TrainingConfig, backbone: Backbone) -> None:
    with pytest.raises(TrainingError, match="a batch of one image for a head with BatchNorm"):
        train(replace(config, head="mlp:8", batch_size=1), None, backbone)


def test_a_head_given_in_a_word_is_resumed_to_the_same_bits(config: TrainingConfig, backbone: Backbone) -> None:
    config = replace(config, head="mlp:8")
    train(config, None, backbone)
    other = replace(config, out=config.out.with_name("other.safetensors"))
    train(other, CtrlC(3), backbone)
    train(replace(other, resume=True), None, backbone)

    assert same_tensors(config.out, other.out)
