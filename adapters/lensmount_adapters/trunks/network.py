"""The whole backbone with its trunk in int8, for training and for scoring: the branch is the live one in torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import ExecutorUnavailable
from lensmount_adapters.graph.functional import functional_branch
from lensmount_adapters.graph.segments import Segments
from lensmount_adapters.programs.choose import choose_executor
from lensmount_adapters.programs.executor import Program, RoundsLayers
from lensmount_adapters.trunks.int8 import Int8Trunks
from lensmount_adapters.trunks.ranges import Ranges, measured_ranges


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
        self._backbone, self._branch, self._executor = backbone, halves.branch, executor

    def features(self, images: Tensor) -> Tensor:
        """Float32 features [N, feature_dim] of preprocessed images [N, 3, height, width]."""
        with torch.inference_mode():
            features: Tensor = self._branch(self.trunk(images))
            return features.float()

    def with_int8_branch(self, adapter: Adapter, images: Iterable[Tensor]) -> tuple[Int8Whole, Ranges]:
        """The network of one adapter with its branch in int8 as well, and the ranges, which these images give.

        `images` are batches of the adapter's task, preprocessed. Without convolutions there are no ranges.
        """
        branch, example = functional_branch(self._branch, self._backbone), self.trunk(self._backbone.zeros(2))
        merged = branch.merged(adapter.deltas)
        weights = [merged.get(name, base) for name, base in zip(branch.inputs, branch.base, strict=True)]
        ranges = measured_ranges(branch, weights, map(self.trunk, images))
        compiled = self._executor.compile(branch.module, (example,), branch.base, f"{self.recipe}-branch")
        assert isinstance(compiled, RoundsLayers)  # OpenVINO's
        by_index = {index: ranges[name] for index, name in enumerate(branch.inputs) if name in ranges}
        return Int8Whole(self.trunk, compiled.bind_int8(weights, by_index)), ranges


@dataclass(frozen=True, slots=True)
class Int8Whole:
    """`network.features(images)` of one adapter, whatever is mounted on the backbone."""

    trunk: Program
    branch: Program

    def features(self, images: Tensor) -> Tensor:
        """Float32 features [N, feature_dim] of preprocessed images [N, 3, height, width]."""
        return self.branch(self.trunk(images)).float()
