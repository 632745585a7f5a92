"""An int8 trunk is quantised once, kept on disk, checked when it is read, and close to the float one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lensmount_adapters import Backbone
from lensmount_adapters.errors import BackboneError
from lensmount_adapters.graph.segments import Halves, Segments
from lensmount_adapters.inputs.rules import Preprocessing
from lensmount_adapters.programs.eager import Eager
from lensmount_adapters.programs.executor import Executor
from lensmount_adapters.trunks import int8
from lensmount_adapters.trunks.calibration import Calibration, drawn_calibration
from lensmount_adapters.trunks.int8 import Int8Trunks

Copied = Callable[[], tuple[Path, Path]]


@pytest.fixture
def images(backbone: Backbone) -> torch.Tensor:
    assert isinstance(backbone.preprocessing, Preprocessing)
    return torch.from_numpy(drawn_calibration().images(backbone.preprocessing)[7]).repeat(3, 1, 1, 1)


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    def quantise(*arguments: Any) -> Any:
        raise AssertionError("quantised again")

    monkeypatch.setattr(int8, "quantised", quantise)


def test_its_output_is_that_of_the_trunk_in_float64_up_to_the_rounding_of_8_bits(
    backbone: Backbone, halves: Halves, float32: Executor, folder: Path, images: torch.Tensor
) -> None:
    trunk = Int8Trunks(folder=folder).of(backbone, halves, float32)
    assert halves.trunk is not None
    with torch.inference_mode():
        exact = torch.cat([Segments(backbone.module).halves(["layer4.0.conv1.weight"]).trunk(images)]).double()  # type: ignore[misc]
    error = (trunk.program(images).double() - exact).norm() / exact.norm()
    assert 1e-3 < error < 0.1  # float32 differs by 1e-6


def test_its_output_is_what_openvino_computes_from_the_model_that_was_kept(
    backbone: Backbone, halves: Halves, float32: Executor, folder: Path, images: torch.Tensor
) -> None:
    import openvino

    (file,) = folder.iterdir()
    content = file.read_bytes()[65:]  # after the digest and a line break
    end = 8 + int.from_bytes(content[:8], "big")
    core = openvino.Core()
    model = core.read_model(content[8:end], content[end:])
    model.reshape([1, 3, 64, 64])
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    (expected,) = core.compile_model(model, "CPU", options)(images[:1].numpy()).values()
    trunk = Int8Trunks(folder=folder).of(backbone, halves, float32)
    assert torch.equal(trunk.program(images[:1]), torch.from_numpy(expected))
    assert torch.equal(trunk.again()(images[:1]), torch.from_numpy(expected))
    quantised = [op for op in model.get_ops() if op.get_type_name() == "FakeQuantize"]
    assert len(quantised) > 4


@pytest.mark.usefixtures("never")
def test_what_was_kept_is_read_without_quantising_again(
    backbone: Backbone, halves: Halves, float32: Executor, folder: Path
) -> None:
    first, second = (Int8Trunks(folder=folder).of(backbone, halves, float32) for _ in range(2))
    assert (first.digest, first.recipe) == (second.digest, second.recipe)


@pytest.mark.parametrize("damage", ["one bit", "the end", "everything"])
def test_a_damaged_file_is_made_again(
    damage: str,
    backbone: Backbone,
    halves: Halves,
    float32: Executor,
    copied: Copied,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder, file = copied()
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    file.write_bytes({"one bit": bytes(flipped), "the end": whole[:-100], "everything": b""}[damage])
    end = 65 + 8 + int.from_bytes(whole[65:73], "big")
    asked: list[int] = []

    def quantise(model: Any, images: Any) -> tuple[bytes, bytes]:
        asked.append(len(images))
        return whole[73:end], whole[end:]

    monkeypatch.setattr(int8, "quantised", quantise)
    Int8Trunks(folder=folder).of(backbone, halves, float32)
    assert len(asked) == 1
    assert file.read_bytes() == whole
    assert "damaged" in caplog.text
    assert [path.name for path in folder.iterdir()] == [file.name]


def test_without_a_folder_it_is_kept_in_memory(
    backbone: Backbone, halves: Halves, float32: Executor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    end = 65 + 8 + int.from_bytes(whole[65:73], "big")
    asked: list[int] = []

    def quantise(model: Any, images: Any) -> tuple[bytes, bytes]:
        asked.append(len(images))
        return whole[73:end], whole[end:]

    monkeypatch.setattr(int8, "quantised", quantise)
    trunks = Int8Trunks()
    kept = Int8Trunks(folder=folder).of(backbone, halves, float32)
    assert [trunks.of(backbone, halves, float32).digest for _ in range(2)] == [kept.digest] * 2
    assert len(asked) == 1


def test_the_recipe_changes_with_weights_cut_settings_and_calibration(
    backbone: Backbone, small_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunks = Int8Trunks()
    recipe = trunks.recipe(backbone, "layer3")
    assert recipe == Int8Trunks(folder=Path("elsewhere")).recipe(backbone, "layer3")
    others = {
        trunks.recipe(backbone, "layer2"),
        trunks.recipe(small_backbone, "layer3"),
        Int8Trunks(Calibration("sha256:1", lambda rule: [])).recipe(backbone, "layer3"),
    }
    monkeypatch.setattr(int8, "SETTINGS", "others")
    assert len(others | {recipe, trunks.recipe(backbone, "layer3")}) == 5


def test_what_cannot_be_quantised_is_refused_with_a_fix(backbone: Backbone, halves: Halves, float32: Executor) -> None:
    with pytest.raises(BackboneError, match=r"found the executor eager.*Fix: the precision float32"):
        Int8Trunks().of(backbone, halves, Eager("cpu", torch.float32))
    with pytest.raises(BackboneError, match=r"found an adapter of the first layer.*Fix: the precision float32"):
        Int8Trunks().of(backbone, Halves(None, halves.branch), float32)
