"""The backbone with an adapter's weights in it, as a network of its own: the resident one is only read."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.backbone.model import Backbone


def merged_tensors(adapter: Adapter, bases: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Every tensor that the adapter changes, merged into its base, in float32 on the CPU. `device` is the adapter's."""
    merged: dict[str, Tensor] = {}
    with torch.no_grad():
        for delta in adapter.deltas:
            base = bases[delta.target.name].to(device).float()
            live = torch.empty_like(base)
            delta.write(base, live)
            merged[delta.target.name] = live.cpu()
    return merged


def merged_module(
    adapter: Adapter, backbone: Backbone, change: Callable[[Tensor], Tensor] = lambda base: base
) -> nn.Module:
    """A copy of the backbone's network with merged weights, in float32 on the CPU, in eval mode.

    `change` is applied to each of the backbone's tensors before the adapter is merged.
    """
    values = {name: change(tensor.float().cpu()) for name, tensor in backbone.originals().items()}
    values |= merged_tensors(adapter, values, backbone.device)
    module = backbone.module
    memo: dict[int, Tensor] = {}  # what is in the memo is not copied, so no write to a live tensor is seen half done
    for name, parameter in module.named_parameters():
        memo[id(parameter)] = nn.Parameter(values[name], requires_grad=False)
    for name, buffer in module.named_buffers():
        memo[id(buffer)] = values.get(name, buffer.clone())
    return copy.deepcopy(module, memo).cpu().float().eval()
