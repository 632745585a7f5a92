"""LayerCAM: a map with a finer grid, by one backward pass through the part of the network behind that grid.

Each cell of each channel is weighed by its own gradient where that is positive: `sum over c of relu(grad) * map`, cut
at zero. The layer is the last one whose grid has more cells than the last map's.

LayerCAM: Jiang et al., IEEE TIP 2021, doi:10.1109/TIP.2021.3089943.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lensmount_adapters.explain.cam import mean_turned_back
from lensmount_adapters.explain.method import carry_on
from lensmount_adapters.explain.network import AdaptedNetwork


class LayerCam:
    """`LayerCam().values(network, image, label)`: one forward pass, and one backward pass to the finer map."""

    passes = 2

    def values(
        self, network: AdaptedNetwork, image: Tensor, label: int, proceed: Callable[[], None] = carry_on
    ) -> Tensor:
        maps = network.finer_maps(network.turned(image))  # [orientations, channels, rows, columns]
        proceed()
        with torch.enable_grad():
            maps = maps.detach().requires_grad_()
            logits = network.logits(network.features(maps))
            (gradients,) = torch.autograd.grad(logits[:, label].sum(), maps)
        cells = (gradients.float().relu() * maps.detach().float()).sum(1).relu()
        return mean_turned_back(network.adapter, cells)
