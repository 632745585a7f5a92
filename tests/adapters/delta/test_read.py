"""The tensors of a file become deltas of the right kind, and those that do not fit are refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lensmount_adapters import Backbone
from lensmount_adapters.backbone.target import Layer, Target
from lensmount_adapters.delta.kinds import (
    Additive,
    Delta,
    GroupedLowRank,
    LowRank,
    TransposedLowRank,
    Tucker,
)
from lensmount_adapters.delta.read import read_deltas
from lensmount_adapters.errors import AdapterInvalid


@pytest.fixture(scope="module")
def backbone(every_layer: Callable[..., Backbone]) -> Backbone:
    return every_layer()


def deltas_of(backbone: Backbone, parts: Any) -> tuple[Delta, ...]:
    tensors = {name: tensor for name, tensor in parts.tensors.items() if not name.startswith("head.")}
    scales = {module: factors["alpha"] / factors["rank"] for module, factors in parts.manifest["modules"].items()}
    return read_deltas(backbone.targets, tensors, scales)


def test_each_layer_gets_its_class(backbone: Backbone, draw_adapter: Callable[..., Any]) -> None:
    kinds = {d.target.module: type(d) for d in deltas_of(backbone, draw_adapter(backbone))}
    assert kinds["linear"] is kinds["conv2d"] is kinds["conv3d"] is LowRank
    assert kinds["depthwise"] is kinds["grouped"] is kinds["conv1d"] is GroupedLowRank
    assert kinds["transposed1d"] is kinds["transposed2d"] is kinds["transposed3d"] is TransposedLowRank
    shared = {d.target.module: type(d) for d in deltas_of(backbone, draw_adapter(backbone, "lora-shared"))}
    assert shared["depthwise"] is LowRank
    tucker = {d.target.module: type(d) for d in deltas_of(backbone, draw_adapter(backbone, "lora-tucker"))}
    assert tucker["conv3d"] is tucker["grouped"] is Tucker
    assert {type(d) for d in deltas_of(backbone, draw_adapter(backbone, "norm"))} == {Additive}


def test_reading_stored_tensors_gives_the_same_tensors_back(
    backbone: Backbone, draw_adapter: Callable[..., Any]
) -> None:
    parts = draw_adapter(backbone, "mixed")
    written = {name: tensor for delta in deltas_of(backbone, parts) for name, tensor in delta.tensors().items()}
    assert written.keys() == {name for name in parts.tensors if not name.startswith("head.")}
    assert all(torch.equal(parts.tensors[name], tensor) for name, tensor in written.items())


def test_an_error_names_the_layer_and_the_found_and_expected_shapes(backbone: Backbone) -> None:
    tensors = {"conv2d.lora_A.weight": torch.ones(8, 4, 3, 3), "conv2d.lora_B.weight": torch.ones(8, 8, 1, 1)}
    with pytest.raises(AdapterInvalid, match=r"conv2d: found lora_A .*\[8, 4, 3, 3\], expected \[8, 3, 3, 3\].*Fix"):
        read_deltas(backbone.targets, tensors, {"conv2d": 1.0})


SMALL = {
    target.name: target for target in (Target("a.weight", (4, 3), Layer.LINEAR), Target("a.bias", (4,), Layer.LINEAR))
}
FACTORS = {"a.lora_A.weight": torch.ones(2, 3), "a.lora_B.weight": torch.ones(4, 2)}


def test_deltas_are_in_the_order_of_the_targets_and_scaled() -> None:
    deltas = read_deltas(SMALL, {"a.bias.delta": torch.ones(4), **FACTORS}, {"a": 0.5})

    assert [delta.target.name for delta in deltas] == ["a.weight", "a.bias"]
    assert torch.equal(
        deltas[0].merged(torch.zeros(4, 3)), torch.full((4, 3), 0.5 * 2)
    )  # a row of B times a column of A, of rank 2
    assert torch.equal(deltas[1].merged(torch.zeros(4)), torch.ones(4))


@pytest.mark.parametrize(
    ("tensors", "code"),
    [
        ({"a.lora_A.weight": torch.ones(2, 3)}, "adapter_incomplete"),
        ({"b.lora_A.weight": torch.ones(2, 3)}, "adapter_unknown_target"),
        ({"a.weight": torch.ones(4, 3)}, "adapter_unknown_target"),
        ({**FACTORS, "a.weight.delta": torch.ones(4, 3)}, "adapter_invalid"),
        ({"a.bias.row_scale": torch.ones(4)}, "adapter_unknown_target"),
        ({"b.weight.column_scale": torch.ones(4)}, "adapter_unknown_target"),
        ({"a.weight.row_scale": torch.ones(3)}, "adapter_shape_mismatch"),
        ({"a.weight.column_scale": torch.ones(4)}, "adapter_shape_mismatch"),
        ({"a.weight.delta": torch.ones(3, 4)}, "adapter_shape_mismatch"),
        ({"a.bias.lora_A.weight": torch.ones(2, 3)}, "adapter_unknown_target"),
    ],
)
def test_tensors_that_belong_to_no_delta_are_refused_with_a_code(tensors: dict[str, Tensor], code: str) -> None:
    with pytest.raises(AdapterInvalid) as caught:
        read_deltas(SMALL, tensors, {"a": 0.5})
    assert caught.value.code == code


def test_factors_without_a_scale_are_incomplete() -> None:
    with pytest.raises(AdapterInvalid, match="no entry under `modules`"):
        read_deltas(SMALL, FACTORS, {})


@pytest.mark.parametrize("prefix", ["base_model.model.", "module.", "_orig_mod.", "timm_model.", "some.wrapper."])
def test_a_name_behind_a_prefix_is_refused_with_the_name_that_fits(prefix: str) -> None:
    tensors = {f"{prefix}{name}": tensor for name, tensor in FACTORS.items()}

    with pytest.raises(AdapterInvalid, match=r"Fix: rename it to 'a\.lora_A\.weight'"):
        read_deltas(SMALL, tensors, {"a": 1.0})


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("a.lora_A.default.weight", r"rename it to 'a\.lora_A\.weight'"),
        ("model.a.bias.delta", r"rename it to 'a\.bias\.delta'"),
        ("b.lora_A.weight", "check the module's name against the backbone's"),
    ],
)
def test_the_advice_about_an_unknown_name_is_one_that_helps(name: str, advice: str) -> None:
    with pytest.raises(AdapterInvalid, match=f"Fix: {advice}"):
        read_deltas(SMALL, {name: torch.ones(2, 3)}, {"a": 1.0})
