"""The merged network is the mounted one, computed apart from it."""

from __future__ import annotations

from typing import Any

import torch

from lensmount_adapters import Adapter, Backbone, ExactSwapper, load_backbone
from lensmount_adapters.export.merged import merged_module, merged_tensors


def test_the_merged_network_has_the_bits_of_the_mounted_one(small: Any, draw_on: Any) -> None:
    backbone: Backbone = small("test_efficientnet")
    adapter: Adapter = draw_on(backbone)

    merged = merged_module(adapter, backbone).state_dict()

    swapper = ExactSwapper(backbone)
    swapper.mount(adapter)
    assert all(torch.equal(merged[name], tensor) for name, tensor in backbone.tensors.items())
    swapper.unmount()
    assert set(merged_tensors(adapter, backbone)) == {delta.target.name for delta in adapter.deltas}


def test_nothing_of_it_is_shared_with_the_resident_network_and_no_clone_is_kept(small: Any, draw_on: Any) -> None:
    adapter: Adapter = draw_on(small("test_resnet"), "norm")
    backbone = load_backbone("test_resnet", "random:0")

    module = merged_module(adapter, backbone)

    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.zero_()
    assert backbone.changed() == []
    assert set(backbone.pristine.kept()) == {delta.target.name for delta in adapter.deltas}


def test_weights_in_half_precision_become_float32(small: Any, draw_on: Any) -> None:
    adapter: Adapter = draw_on(small("test_resnet"), "norm")
    half = load_backbone("test_resnet", "random:0", dtype=torch.bfloat16)

    module = merged_module(adapter, half)

    assert {tensor.dtype for tensor in module.parameters()} == {torch.float32}
    assert torch.equal(module.state_dict()["conv1.0.weight"], half.tensors["conv1.0.weight"].float())
