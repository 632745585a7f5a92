"""The backbone with an int8 trunk computes its features from that trunk, with whatever is mounted on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lensmount_adapters import Backbone, ExactSwapper, admit
from lensmount_adapters.errors import ExecutorUnavailable
from lensmount_adapters.graph.segments import Halves
from lensmount_adapters.programs.executor import Executor
from lensmount_adapters.trunks.int8 import Int8Trunks
from lensmount_adapters.trunks.network import Int8Network

NAMES = ["layer4.0.conv1.weight"]


def test_features_are_the_branch_of_what_the_int8_trunk_gives(
    backbone: Backbone, halves: Halves, float32: Executor, folder: Path, draw_adapter: Any
) -> None:
    trunks = Int8Trunks(folder=folder)
    network = Int8Network(backbone, trunks, NAMES)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    activations = trunks.of(backbone, halves, float32).program(images)
    adapter = admit(draw_adapter(backbone, modules=r"layer4.*").dump(), backbone)
    swapper = ExactSwapper(backbone)
    for mounted in (None, adapter):
        if mounted is not None:
            swapper.mount(mounted)
        with torch.inference_mode():
            expected = halves.branch(activations)
        assert torch.allclose(network.features(images), expected, atol=1e-4)
        assert not torch.allclose(backbone.features(images), expected, atol=1e-4)
    swapper.unmount()


def test_a_backbone_on_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch, backbone: Backbone) -> None:
    monkeypatch.setattr(Backbone, "device", torch.device("cuda"))
    with pytest.raises(ExecutorUnavailable, match="Fix: --device cpu"):
        Int8Network(backbone, Int8Trunks(), NAMES)
