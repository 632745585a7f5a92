"""The backbone with an adapter's weights in it, as a function: the resident modules get no hook and are never written.

The network is a second tree of modules over the same tensors, so it needs no memory of its own. An adapter's merged
weights take the place of the resident ones during a call (`torch.func.functional_call`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lensmount_adapters.adapter.adapter import ORIENTATIONS, Adapter
from lensmount_adapters.adapter.heads import probabilities
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import BackboneError, ExplainError
from lensmount_adapters.graph.pooled_maps import PooledMaps, find_maps
from lensmount_adapters.graph.segments import Segments
from lensmount_adapters.inputs.images import orient


class Network:
    """`Network(backbone).with_adapter(adapter)`. One thread at a time may use it."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.base = backbone.base(backbone.tensors)
        memo: dict[int, object] = {}  # what is in the memo is not copied
        for name, parameter in backbone.module.named_parameters():
            memo[id(parameter)] = nn.Parameter(self.base[name], requires_grad=False)
        for name, buffer in backbone.module.named_buffers():
            memo[id(buffer)] = self.base.get(name, buffer)
        self.module: nn.Module = copy.deepcopy(backbone.module, memo)

    @cached_property
    def maps(self) -> PooledMaps:
        """Where the backbone's maps are. Raises ExplainError if it does not average its last map."""
        try:
            segments = Segments(self.module)
        except BackboneError as error:
            raise ExplainError(
                f"found {self.backbone.name}, which cannot be traced, expected a network with a last map. "
                "Fix: the method occlusion, which works with every backbone"
            ) from error
        return find_maps(segments, self.backbone)

    def with_adapter(self, adapter: Adapter) -> AdaptedNetwork:
        """The network that answers for this adapter. Its merged weights are kept as long as the result is."""
        weights: dict[str, Tensor] = {}
        with torch.no_grad():
            for delta in adapter.deltas:
                base = self.base[delta.target.name]
                weights[delta.target.name] = live = torch.empty_like(base)
                delta.write(base, live)
        return AdaptedNetwork(self, adapter, weights)


class AdaptedNetwork:
    """The network of one adapter: images to features, to maps and to scores."""

    def __init__(self, network: Network, adapter: Adapter, weights: Mapping[str, Tensor]) -> None:
        self._network = network
        self._weights = weights
        self.adapter = adapter
        self.turns = ORIENTATIONS[adapter.manifest.preprocessing.orientations]

    def scores(self, images: Tensor) -> Tensor:
        """Images [N, 3, height, width] to scores [N, classes] in [0, 1], the mean over the adapter's orientations."""
        with torch.no_grad():
            logits = [self.logits(self._run(self._network.module, self._input(images, turn))) for turn in self.turns]
            return probabilities(self.adapter.manifest.head, torch.stack(logits).mean(0))

    def turned(self, image: Tensor) -> Tensor:
        """One image [3, height, width] in each orientation that the adapter asks for, [orientations, 3, H, W]."""
        return torch.cat([self._input(image[None], turn) for turn in self.turns])

    def last_maps(self, images: Tensor) -> Tensor:
        """The last maps [N, feature_dim, rows, columns] of `turned` images; their means are the features."""
        with torch.no_grad():
            return self._run(self._network.maps.to_last, images)

    def finer_maps(self, images: Tensor) -> Tensor:
        """The last maps [N, channels, rows, columns] with a finer grid than that of `last_maps`."""
        with torch.no_grad():
            return self._run(self._network.maps.to_finer, images)

    def features(self, finer_maps: Tensor) -> Tensor:
        """From finer maps to features [N, feature_dim], differentiable with respect to the maps."""
        return self._run(self._network.maps.from_finer, finer_maps)

    def logits(self, features: Tensor) -> Tensor:
        """Features [N, feature_dim] to logits [N, classes], float32, differentiable with respect to the features."""
        logits: Tensor = self.adapter.head(features.float())
        return logits

    def _input(self, images: Tensor, turn: int) -> Tensor:
        backbone = self._network.backbone
        return orient(images.to(backbone.device, backbone.dtype), turn)

    def _run(self, module: nn.Module, x: Tensor) -> Tensor:
        """The module with the adapter's weights in place of its own."""
        names = {*dict(module.named_parameters()), *dict(module.named_buffers())}
        weights = {name: tensor for name, tensor in self._weights.items() if name in names}
        result: Tensor = functional_call(module, weights, (x,))
        return result
