from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from lensmount_adapters import Backbone, Manifest, Preprocessing
from lensmount_adapters.backbone.load import load_backbone
from lensmount_adapters.data.dataset import read_folder
from lensmount_adapters.draft.choice import Known
from lensmount_adapters.draft.draft import Basis, make_draft
from lensmount_adapters.draft.features import rule_of
from lensmount_adapters.draft.solve import balanced_accuracy, solve
from lensmount_adapters.training.answer import predict_samples
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.evaluate import reproduce_split
from lensmount_adapters.training.result import TrainingResult
from lensmount_adapters.training.train_adapter import train
from lensmount_service.worker.gate import NewAdapter, Replaced, Resolved, accuracy_of, decide

if TYPE_CHECKING:
    pass
    from tests.service.conftest import MakeAdapter, MakeImages

OLD = Replaced("malaria", 3, "sha256:" + "0" * 64)


@pytest.fixture
def candidate() -> Callable[[float | None], NewAdapter]:
    def make(accuracy: float | None) -> NewAdapter:
        return NewAdapter(manifest=cast(Manifest, None), part="test", balanced_accuracy=accuracy)

    return make


@pytest.mark.parametrize(
    ("new", "old", "passes"),
    [(0.95, 0.90, True), (0.90, 0.90, True), (0.895, 0.90, True), (0.885, 0.90, False), (0.0, 1.0, False)],
)
def test_a_new_adapter_passes_unless_it_is_worse_by_more_than_the_margin(
    candidate: Callable[[float | None], NewAdapter], new: float, old: float, passes: bool
) -> None:
    verdict = decide(candidate(new), OLD, old, margin=0.01, force=False)
    assert verdict.replaced is not None
    assert (verdict.passed, verdict.balanced_accuracy, verdict.replaced.balanced_accuracy) == (passes, new, old)
    assert f"{new:.4f}" in verdict.reason
    assert "version 3" in verdict.reason


def test_force_publishes_a_worse_adapter_and_says_so(candidate: Callable[[float | None], NewAdapter]) -> None:
    verdict = decide(candidate(0.5), OLD, 0.9, margin=0.01, force=True)
    assert (verdict.passed, verdict.forced) == (True, True)
    assert "worse by more than the margin" in verdict.reason
    assert "the job says force" in verdict.reason


def test_the_first_of_its_name_passes(candidate: Callable[[float | None], NewAdapter]) -> None:
    verdict = decide(candidate(0.5), None, None, margin=0.01, force=False)
    assert (verdict.passed, verdict.replaced) == (True, None)


def test_an_old_version_for_another_backbone_is_not_compared_with(
    candidate: Callable[[float | None], NewAdapter],
) -> None:
    verdict = decide(candidate(0.5), OLD, None, margin=0.01, force=False)
    assert verdict.passed
    assert "another backbone" in verdict.reason


def test_without_a_figure_for_the_old_or_the_new_adapter_it_does_not_pass(
    candidate: Callable[[float | None], NewAdapter],
) -> None:
    assert not decide(candidate(0.9), OLD, "the labels differ", margin=0.01, force=False).passed
    assert not decide(candidate(None), OLD, 0.5, margin=0.01, force=False).passed


def test_a_verdict_is_plain_json(candidate: Callable[[float | None], NewAdapter]) -> None:
    assert decide(candidate(0.9), OLD, 0.8, margin=0.01, force=False).to_json() == {
        "passed": True,
        "reason": "balanced accuracy 0.9000 on the test part, version 3 has 0.8000: not worse by more than the margin "
        "of 0.01",
        "margin": 0.01,
        "forced": False,
        "balanced_accuracy": 0.9,
        "replaced": {"name": "malaria", "version": 3, "digest": OLD.digest, "balanced_accuracy": 0.8},
    }


@pytest.mark.parametrize(("new", "again", "passes"), [(0.8, 0.8, True), (0.7, 0.8, False), (0.7, None, True)])
def test_a_draft_counts_as_it_is_without_the_images_of_the_comparison(
    candidate: Callable[[float | None], NewAdapter], new: float, again: float | None, passes: bool
) -> None:
    verdict = decide(candidate(new), OLD, Resolved(again), margin=0.01, force=False)
    assert verdict.replaced is not None
    assert (verdict.passed, verdict.replaced.balanced_accuracy) == (passes, again)
    assert "version 3, a draft that was solved again without these images, has" in verdict.reason


# The old adapter on the new one's images


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, backbone: Backbone, make_images: MakeImages
) -> tuple[Path, TrainingResult]:
    """A folder of images and the result of training on it."""
    folder = tmp_path_factory.mktemp("gate")
    make_images(folder / "data", ("a", "b"), 10)
    config = TrainingConfig(
        folder / "data",
        "new",
        folder / "new.safetensors",
        backbone=backbone.name,
        method="norm",
        epochs=2,
        size=64,
        augment="none",
        precision="fp32",
    )
    result = train(config, backbone=backbone)
    return folder / "data", result


def test_the_accuracy_of_an_adapter_on_its_own_test_part_is_the_one_it_was_trained_with(
    trained: tuple[Path, TrainingResult], backbone: Backbone
) -> None:
    data, result = trained
    assert result.test is not None
    candidate = NewAdapter(result.manifest, "test", result.test.balanced_accuracy)
    assert accuracy_of(result.path.read_bytes(), candidate, data, backbone) == result.test.balanced_accuracy


def test_labels_in_another_order_are_compared_and_other_labels_are_refused(
    trained: tuple[Path, TrainingResult], backbone: Backbone, make_adapter: MakeAdapter
) -> None:
    data, result = trained
    candidate = NewAdapter(result.manifest, "test", 0.5)
    rule = Preprocessing(size=(64, 64), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    straight = accuracy_of(make_adapter(3, ("a", "b"), rule=rule), candidate, data, backbone)
    turned = accuracy_of(make_adapter(3, ("b", "a"), rule=rule), candidate, data, backbone)
    assert isinstance(straight, float)
    assert isinstance(turned, float)
    assert straight + turned == pytest.approx(1.0)  # the same scores under swapped names
    other = accuracy_of(make_adapter(3, ("a", "c")), candidate, data, backbone)
    assert "labels differ" in str(other)


def test_an_adapter_of_another_backbone_has_no_accuracy(
    trained: tuple[Path, TrainingResult], make_adapter: MakeAdapter
) -> None:
    data, result = trained
    candidate = NewAdapter(result.manifest, "test", 0.5)
    assert accuracy_of(make_adapter(3), candidate, data, load_backbone("test_resnet", "random:1")) is None


def test_a_draft_gains_nothing_from_images_that_it_has_seen(
    trained: tuple[Path, TrainingResult], backbone: Backbone, tmp_path: Path
) -> None:
    """Labels that say nothing about the images: a head that has seen them gets all right, and guesses the others."""
    data, _ = trained
    images = sorted(data.rglob("*.png"))
    noise = np.random.default_rng(0).permutation([0, 1] * (len(images) // 2))
    for path, label in zip(images, noise, strict=True):
        target = tmp_path / "noise" / "ab"[label] / path.relative_to(data).as_posix().replace("/", "-")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    folder = read_folder(tmp_path / "noise")
    known = [Known(sample.path, sample.label, sample.group, sample.digest) for sample in folder.samples]
    rule = rule_of(backbone)
    features = predict_samples(folder, folder.samples, rule, backbone.features).double().numpy()
    draft = make_draft("noise", folder.classes, known, features, Basis(backbone, None, rule))
    config = TrainingConfig(
        tmp_path / "noise", "noise", tmp_path / "new.safetensors", backbone=backbone.name, method="head", epochs=1,
        size=64, augment="none", precision="fp32",
    )  # fmt: skip
    result = train(config, backbone=backbone)
    assert result.test is not None
    candidate = NewAdapter(result.manifest, "test", result.test.balanced_accuracy)
    part = reproduce_split(result.manifest, folder, "test")
    rows = [folder.samples.index(sample) for sample in part]
    others = [row for row in range(len(folder)) if row not in rows]
    labels = np.array([sample.label for sample in folder.samples])
    seen = solve(features, labels, 2).logits(features[rows])
    unseen = solve(features[others], labels[others], 2).logits(features[rows])

    found = accuracy_of(draft.data, candidate, tmp_path / "noise", backbone)

    assert balanced_accuracy(labels[rows], seen) == 1.0
    assert found == Resolved(balanced_accuracy(labels[rows], unseen))
    assert found != Resolved(1.0)
