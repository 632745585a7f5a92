"""An admitted adapter: deltas, head and manifest in memory, immutable and identified by its digest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from lensmount_adapters.adapter.heads import probabilities
from lensmount_adapters.adapter.manifest import Manifest, SegmentationHead
from lensmount_adapters.adapter.trust_check import AdapterTrust
from lensmount_adapters.delta.kinds import Delta
from lensmount_adapters.inputs.images import orient, turn_back

ORIENTATIONS = {1: (0,), 2: (0, 4), 4: (0, 1, 2, 3), 8: tuple(range(8))}  # as numbered by `orient`


class ComputesFeatures(Protocol):
    """The backbone, or another way to compute the same network."""

    def features(self, images: Tensor) -> Tensor:
        """Float32 features [N, feature_dim] of preprocessed images."""
        ...


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Adapter:
    """What `admit` returns and a swapper mounts. Deltas keep the file's dtype; the head is float32."""

    digest: str
    size_bytes: int
    manifest: Manifest
    deltas: tuple[Delta, ...]
    head: nn.Module
    trust: AdapterTrust | None = None

    def logits(self, features: Tensor) -> Tensor:
        """Features [N, feature_dim] of the mounted backbone to logits [N, classes], float32."""
        with torch.inference_mode():
            logits: Tensor = self.head(features.float())
            return logits

    def scores(self, features: Tensor) -> Tensor:
        """Features [N, feature_dim] of the mounted backbone to scores [N, classes] in [0, 1]."""
        return probabilities(self.manifest.head, self.logits(features))

    def image_logits(self, backbone: ComputesFeatures, images: Tensor) -> Tensor:
        """Preprocessed images [N, 3, H, W] to logits [N, classes] on the backbone that this adapter is mounted on.

        They are the mean over the orientations that the manifest asks for.
        """
        turns = ORIENTATIONS[self.manifest.preprocessing.orientations]
        return self.averaged(torch.cat([self.logits(backbone.features(orient(images, turn))) for turn in turns]))

    def averaged(self, logits: Tensor) -> Tensor:
        """Logits [orientations x N, classes], one orientation after the other, to their mean [N, classes].

        Maps [orientations x N, classes, height, width] are first turned back to the orientation of the image.
        """
        turns = ORIENTATIONS[self.manifest.preprocessing.orientations]
        if len(turns) == 1:
            return logits
        by_turn = logits.reshape(len(turns), -1, *logits.shape[1:])
        if isinstance(self.manifest.head, SegmentationHead):
            by_turn = torch.stack([turn_back(maps, turn) for maps, turn in zip(by_turn, turns, strict=True)])
        return by_turn.mean(0)

    def image_scores(self, backbone: ComputesFeatures, images: Tensor) -> Tensor:
        """Like `image_logits`, but scores [N, classes] in [0, 1]."""
        return probabilities(self.manifest.head, self.image_logits(backbone, images))

    def nbytes(self) -> int:
        """The bytes of the factors, the head and the statistics of trust in memory."""
        tensors = [tensor for delta in self.deltas for tensor in delta.tensors().values()]
        tensors += self.head.state_dict().values()
        statistics = self.trust.statistics if self.trust is not None else None
        return sum(tensor.nbytes for tensor in tensors) + (statistics.nbytes if statistics is not None else 0)
