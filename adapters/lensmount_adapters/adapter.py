"""An admitted adapter: deltas, head and manifest in memory, immutable, known by its digest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lensmount_adapters.delta import Delta
from lensmount_adapters.heads import probabilities
from lensmount_adapters.manifest import Manifest


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """What `admit` returns and a swapper mounts. Deltas and head hold float32 tensors."""

    digest: str
    size_bytes: int
    manifest: Manifest
    deltas: tuple[Delta, ...]
    head: nn.Module

    def logits(self, features: Tensor) -> Tensor:
        """Features [N, feature_dim] of the mounted backbone to logits [N, classes], float32."""
        with torch.inference_mode():
            logits: Tensor = self.head(features.float())
            return logits

    def scores(self, features: Tensor) -> Tensor:
        """Features [N, feature_dim] of the mounted backbone to scores [N, classes] in [0, 1]."""
        return probabilities(self.manifest.head, self.logits(features))

    def nbytes(self) -> int:
        """Bytes held in memory by factors and head."""
        tensors = [tensor for delta in self.deltas for tensor in delta.tensors().values()]
        tensors += self.head.state_dict().values()
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
