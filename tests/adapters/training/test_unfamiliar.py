"""A trained adapter tells images unlike its own, by statistics that a plain forward pass and scikit-learn give too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.covariance import LedoitWolf
from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.adapter.trust_check import MAX_BYTES
from lensmount_adapters.backbone.load import load_backbone
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.inputs.images import decode_image, preprocess
from lensmount_adapters.programs.choose import choose_executor
from lensmount_adapters.runners.segment_runner import SegmentRunner
from lensmount_adapters.training import unfamiliar
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.train_adapter import train
from lensmount_adapters.trust.distance import distances, percentile_of
from lensmount_adapters.trust.familiarity import FLAG

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawFolder


@dataclass(frozen=True)
class Question:
    adapter: Adapter
    image: Tensor


@pytest.fixture(scope="module")
def many_shapes(draw_folder: DrawFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("many") / "shapes", disc=60, bar=60)


@pytest.fixture(scope="module")
def trained(many_shapes: Path, backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "shapes.safetensors"
    config = TrainingConfig(
        data=many_shapes,
        name="shapes",
        out=out,
        backbone="mobilenetv3_small_050",
        weights="random:0",
        epochs=1,
        size=64,
        group_regex=r"^(.+_s\d+)_",
        precision="fp32",
        threads=1,
    )
    return train(config, backbone=backbone).path


@pytest.fixture(scope="module")
def admitted(trained: Path, backbone: Backbone) -> Adapter:
    return admit(trained.read_bytes(), backbone)


@pytest.fixture(scope="module")
def ask(admitted: Adapter, backbone: Backbone) -> Callable[..., list[float]]:
    """`ask(images, "eager", "float32")`: the percentile of each image, by a runner."""

    def compute(images: list[Image.Image], executor: str = "eager", precision: str = "float32") -> list[float]:
        runner = SegmentRunner(backbone, choose_executor(executor, precision, "cpu", 1, None))
        rule = admitted.manifest.preprocessing
        outcome = runner.scores([Question(admitted, preprocess(image, rule)) for image in images])  # type: ignore[arg-type]  # images, not volumes
        runner.close()
        found = [percentile_of(admitted.trust, None if v is None else v.numpy()) for v in outcome.pooled]
        assert None not in found
        return [each for each in found if each is not None]

    return compute


def own(folder: Path) -> list[Image.Image]:
    return [decode_image(path.read_bytes()) for path in sorted(folder.rglob("*.png"))]


def noise(count: int) -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (64, 64, 3)).astype(np.uint8)) for _ in range(count)]


def test_noise_is_flagged_and_own_images_are_not(many_shapes: Path, ask: Callable[..., list[float]]) -> None:
    assert min(ask(noise(8))) >= FLAG
    assert np.mean(np.array(ask(own(many_shapes)[::8])) >= FLAG) <= 0.1


def test_the_file_says_of_what_and_of_how_many_images_the_statistics_are(trained: Path, admitted: Adapter) -> None:
    assert admitted.trust is not None
    familiarity, record = admitted.trust.block.familiarity, admitted.manifest.training
    assert familiarity is not None
    cut = record["trunk"]["cut"]
    assert familiarity.space == f"{admitted.manifest.backbone.fingerprint}|{cut}|mean"
    parts = record["split"]["parts"]
    assert record["unfamiliar"] == {"images": familiarity.images}
    assert familiarity.images == sum(each["images"] for part, each in parts.items() if part != "test")
    assert admitted.trust.statistics is not None
    assert admitted.trust.statistics.nbytes <= 2 * MAX_BYTES


def test_the_distance_is_that_of_a_plain_forward_pass_and_the_covariance_of_scikit_learn(
    many_shapes: Path, admitted: Adapter, draw_folder: DrawFolder, tmp_path: Path
) -> None:
    """The reference knows only the file's own means: that of the classes, and the covariance about them."""
    module = load_backbone("mobilenetv3_small_050", "random:0").module.double()
    first = min(delta.target.path for delta in admitted.deltas if delta.target.path.startswith("blocks."))
    assert first.split(".")[2:] == ["0", "conv_pw"]  # so the cut is at the end of the stage before it
    stage = module.get_submodule(f"blocks.{int(first.split('.')[1]) - 1}")
    seen: list[Tensor] = []
    stage.register_forward_hook(lambda m, i, o: seen.append(o.mean((2, 3))))

    def pooled(images: list[Image.Image]) -> np.ndarray:
        rule = admitted.manifest.preprocessing
        with torch.no_grad():
            module(torch.stack([preprocess(image, rule) for image in images]).double())  # type: ignore[arg-type]  # as above
        return seen.pop().numpy()

    assert admitted.trust is not None
    statistics = admitted.trust.statistics
    assert statistics is not None
    vectors, label = pooled(own(many_shapes)), np.repeat([0, 1], 60)  # bar, disc: with the test part, without copies
    assert np.allclose(statistics.means, [vectors[label == each].mean(0) for each in (0, 1)], atol=0.05)
    covariance = LedoitWolf(assume_centered=True).fit(vectors - statistics.means[label]).covariance_
    asked = pooled(own(many_shapes)[:10] + noise(10))
    expected = np.min(
        [np.einsum("ni,ij,nj->n", asked - m, np.linalg.inv(covariance), asked - m) for m in statistics.means], axis=0
    )
    found = distances(statistics, asked)
    assert np.corrcoef(np.log(found), np.log(expected))[0, 1] > 0.99


@pytest.mark.parametrize("executor", ["eager", "openvino"])
def test_bfloat16_moves_the_percentile_of_own_images_by_little(
    executor: str, many_shapes: Path, ask: Callable[..., list[float]]
) -> None:
    if executor == "openvino":
        pytest.importorskip("openvino")
    images = own(many_shapes)[::6]

    exact, rounded = (np.array(ask(images, executor, precision)) for precision in ("float32", "bfloat16"))

    assert np.abs(exact - rounded).max() <= 5
    assert np.abs(exact - rounded).mean() <= 2


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"data": None}, "40 images, 50 are needed"),
        ({"targets": "conv_stem"}, "no layer stays frozen before the first trained one"),
        ({"calibration": "off"}, "calibration is off"),
    ],
    ids=["few images", "the first layer is trained", "off"],
)
def test_the_record_says_why_there_are_no_statistics(
    config: TrainingConfig, backbone: Backbone, many_shapes: Path, shapes: Path, change: dict[str, Any], why: str
) -> None:
    wanted = {"data": many_shapes} | change
    few = train(replace(config, epochs=1, **(wanted | {"data": wanted["data"] or shapes})), backbone=backbone)

    assert few.record["unfamiliar"] == {"images": None, "why": why}
    assert few.manifest.trust is None or few.manifest.trust.familiarity is None


def test_ctrl_c_while_statistics_are_fitted_leaves_a_file_and_the_run_resumes(
    config: TrainingConfig, backbone: Backbone, many_shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    config = replace(config, data=many_shapes, epochs=1, method="head")
    with monkeypatch.context() as patch:
        patch.setattr(unfamiliar, "fit_familiarity", pressed)
        halted = train(config, backbone=backbone)

    assert halted.interrupted
    assert admit(halted.path.read_bytes(), backbone).trust is None
    resumed = train(replace(config, resume=True), backbone=backbone)
    assert not resumed.interrupted
    assert resumed.manifest.trust is not None
    assert resumed.manifest.trust.familiarity is not None
