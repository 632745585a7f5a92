"""The backbone with an adapter's weights in it, as a network of its own: the resident one is only read."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.backbone.model import Backbone


def merged_tensors(adapter: Adapter, backbone: Backbone) -> dict[str, Tensor]:
    """Every tensor of the backbone that the adapter changes, merged, in float32 on the CPU."""
    bases = backbone.base(delta.target.name for delta in adapter.deltas)
    merged: dict[str, Tensor] = {}
    with torch.no_grad():
        for delta in adapter.deltas:
            base = bases[delta.target.name].float()
            live = torch.empty_like(base)
            delta.write(base, live)
            merged[delta.target.name] = live.cpu()
    return merged


def merged_module(adapter: Adapter, backbone: Backbone) -> nn.Module:
    """A copy of the backbone's network with merged weights, in float32 on the CPU, in eval mode."""
    values = {name: tensor.float().cpu() for name, tensor in backbone.originals().items()}
    values |= merged_tensors(adapter, backbone)
    module = backbone.module
    memo: dict[int, Tensor] = {  # what is in the memo is not copied, so no write to a live tensor is seen half done
        id(tensor): nn.Parameter(values[name], requires_grad=False)
        if isinstance(tensor, nn.Parameter)
        else values[name]
        for name, tensor in (*module.named_parameters(), *module.named_buffers())
        if name in values
    }
    return copy.deepcopy(module, memo).cpu().float().eval()
