from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from lensmount_adapters import Backbone, Manifest, Preprocessing
from lensmount_adapters.backbone.load import load_backbone
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.result import TrainingResult
from lensmount_adapters.training.train_adapter import train
from lensmount_service.worker.gate import NewAdapter, Replaced, accuracy_of, decide

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
