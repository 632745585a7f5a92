"""The class activation map: how much each cell of the last map adds to a label's logit.

The features are the mean of the last map over its cells. So a linear head's logit is its bias plus one part for each
cell, and these parts are the map: they add up to the logit without its bias. It is Grad-CAM at that layer without a
backward pass through the network, and without the cut at zero: parts below zero speak against the label. For other
heads, the gradient of the logit at the features takes the place of the label's weights.

CAM: arXiv 1512.04150; Grad-CAM: arXiv 1610.02391.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lensmount_adapters.adapter.adapter import ORIENTATIONS, Adapter
from lensmount_adapters.explain.method import carry_on
from lensmount_adapters.explain.network import AdaptedNetwork
from lensmount_adapters.inputs.images import turn_back


class Cam:
    """`Cam().values(network, image, label)`: one forward pass."""

    passes = 1

    def values(
        self, network: AdaptedNetwork, image: Tensor, label: int, proceed: Callable[[], None] = carry_on
    ) -> Tensor:
        return activation_map(network.adapter, network.last_maps(network.turned(image)), label)


def activation_map(adapter: Adapter, maps: Tensor, label: int) -> Tensor:
    """From the last maps [orientations, feature_dim, rows, columns] of one image to values [rows, columns], float32.

    Any runner may have computed the maps, in any precision.
    """
    maps = maps.float()
    weights = _weights(adapter, maps, label)
    cells = (weights[:, None] @ maps.flatten(2)).view(len(maps), *maps.shape[2:]) / maps[0, 0].numel()
    return mean_turned_back(adapter, cells)


def _weights(adapter: Adapter, maps: Tensor, label: int) -> Tensor:
    """The gradient of the label's logit at the features, [orientations, feature_dim]; a linear head's is its row."""
    if isinstance(adapter.head, nn.Linear):
        return adapter.head.weight[label].expand(len(maps), -1)
    features = maps.mean((2, 3)).clone().requires_grad_()
    with torch.enable_grad():
        (weights,) = torch.autograd.grad(adapter.head(features)[:, label].sum(), features)
    return weights


def mean_turned_back(adapter: Adapter, values: Tensor) -> Tensor:
    """Values [orientations, rows, columns], one for each orientation, to their mean as the image lies, on the CPU."""
    turns = ORIENTATIONS[adapter.manifest.preprocessing.orientations]
    return torch.stack([turn_back(each, turn) for each, turn in zip(values, turns, strict=True)]).mean(0).cpu()
