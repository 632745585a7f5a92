"""The merged network is the mounted one, computed apart from it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lensmount_adapters import Adapter, Backbone, ExactSwapper, admit, load_backbone
from lensmount_adapters.adapter.merged import merged_module, merged_tensors


@pytest.fixture(scope="module")
def made_on() -> Backbone:
    return load_backbone("test_resnet", "random:0")


@pytest.fixture(scope="module")
def adapter(made_on: Backbone, draw_adapter: Any) -> Adapter:
    return admit(draw_adapter(made_on, "mixed").dump(), made_on)


def test_the_merged_network_has_the_bits_of_the_mounted_one(made_on: Backbone, adapter: Adapter) -> None:
    merged = merged_module(adapter, made_on).state_dict()
    alone = merged_tensors(adapter, made_on.originals(), made_on.device)

    swapper = ExactSwapper(made_on)
    swapper.mount(adapter)
    assert all(torch.equal(merged[name], tensor) for name, tensor in made_on.tensors.items())
    swapper.unmount()
    assert set(alone) == {delta.target.name for delta in adapter.deltas}
    assert all(torch.equal(merged[name], tensor) for name, tensor in alone.items())


def test_nothing_of_it_is_shared_with_the_resident_network_and_no_clone_is_kept(adapter: Adapter) -> None:
    backbone = load_backbone("test_resnet", "random:0")

    module = merged_module(adapter, backbone)

    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.zero_()
    assert backbone.changed() == []
    assert backbone.pristine.kept() == {}


def test_weights_in_half_precision_become_float32(adapter: Adapter) -> None:
    half = load_backbone("test_resnet", "random:0", dtype=torch.bfloat16)

    module = merged_module(adapter, half)

    assert {tensor.dtype for tensor in module.parameters()} == {torch.float32}
    untouched = next(iter(half.tensors.keys() - {delta.target.name for delta in adapter.deltas}))
    assert torch.equal(module.state_dict()[untouched], half.tensors[untouched].float())


def test_the_base_may_be_changed_before_the_adapter_is_merged(made_on: Backbone, adapter: Adapter) -> None:
    merged = merged_module(adapter, made_on, lambda base: base + 1).state_dict()

    for delta in adapter.deltas:
        name = delta.target.name
        assert torch.allclose(merged[name], delta.merged(made_on.tensors[name] + 1), rtol=1e-5, atol=1e-5)
