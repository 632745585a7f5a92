"""The whole backbone with its trunk in int8, for training and for scoring: the branch is the live one in torch."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import ExecutorUnavailable
from lensmount_adapters.graph.segments import Segments
from lensmount_adapters.programs.choose import choose_executor
from lensmount_adapters.trunks.int8 import Int8Trunks


class Int8Network:
    """`Int8Network(backbone, trunks, names).features(images)`, cut before the first of these tensors.

    The branch shares its tensors with the backbone, so it computes with the adapter that is mounted. Raises
    BackboneError as `Int8Trunks.of` does, and if the backbone is on a GPU or cannot be traced.
    """

    def __init__(self, backbone: Backbone, trunks: Int8Trunks, names: Collection[str]) -> None:
        if backbone.device.type != "cpu":
            raise ExecutorUnavailable(f"found the device {backbone.device}, expected cpu for int8. Fix: --device cpu")
        executor = choose_executor("openvino", "float32", backbone.device, torch.get_num_threads(), trunks.folder)
        halves = Segments(backbone.module).halves(names)
        made = trunks.of(backbone, halves, executor)
        self.trunk, self.recipe = made.program, made.recipe
        self._branch = halves.branch

    def features(self, images: Tensor) -> Tensor:
        """Float32 features [N, feature_dim] of preprocessed images [N, 3, height, width]."""
        with torch.inference_mode():
            features: Tensor = self._branch(self.trunk(images))
            return features.float()
