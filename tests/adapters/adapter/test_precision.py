"""The same weights in another precision are recognised by fingerprints, and other weights are not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lensmount_adapters import Backbone, Manifest, load_backbone
from lensmount_adapters.adapter.precision import RECORD, record_of, rounding_between


@pytest.fixture(scope="module")
def precise() -> Backbone:
    return load_backbone("test_resnet", "random:0")


def stored_as(backbone: Backbone, dtype: torch.dtype) -> Backbone:
    """The backbone from a file in another precision: loaded into float32 again."""
    module = load_backbone("test_resnet", "random:1").module
    state = {name: tensor.to(dtype).float() for name, tensor in backbone.tensors.items()}
    module.load_state_dict(state, strict=False)
    return Backbone(backbone.name, module, backbone.preprocessing, torch.float32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounded_weights_are_recognised_from_both_sides(
    dtype: torch.dtype, precise: Backbone, draw_manifest: Any
) -> None:
    rounded = stored_as(precise, dtype)
    word = str(dtype).removeprefix("torch.")
    of_rounded: Manifest = draw_manifest(["a", "b"], backbone=rounded.ref.model_dump())
    record = {RECORD: dict(precise.rounded_fingerprints)}
    of_precise: Manifest = draw_manifest(["a", "b"], backbone=precise.ref.model_dump(), training=record)

    on_precise, on_rounded = rounding_between(of_rounded, precise), rounding_between(of_precise, rounded)

    assert on_precise is not None
    assert on_rounded is not None
    assert (on_precise.dtype, on_precise.here) == (word, False)
    assert (on_rounded.dtype, on_rounded.here, on_rounded.torch_dtype) == (word, True, dtype)


def test_other_weights_and_equal_ones_are_no_rounding(precise: Backbone, draw_manifest: Any) -> None:
    other = load_backbone("test_resnet", "random:1")
    record = {RECORD: dict(other.rounded_fingerprints)}

    for backbone, training in ((other, record), (other, {RECORD: 3}), (precise, {})):
        manifest = draw_manifest(["a"], backbone=backbone.ref.model_dump(), training=training)
        assert rounding_between(manifest, precise) is None


def test_weights_that_are_resident_in_half_precision_have_no_rounded_fingerprints(precise: Backbone) -> None:
    resident = load_backbone("test_resnet", "random:0", dtype=torch.bfloat16)

    assert (resident.rounded_fingerprints, record_of(resident)) == ({}, {})
    assert record_of(precise)[RECORD].keys() == {"float16", "bfloat16"}
