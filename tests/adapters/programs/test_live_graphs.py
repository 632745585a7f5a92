"""Graphs over live weights follow what is written there. Tested without a GPU, by a torch.cuda that records graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.fake_cuda import FakeCuda

from lensmount_adapters import Adapter, Backbone, ExactSwapper, admit, load_backbone
from lensmount_adapters.programs.live_graphs import live_graphs


def test_a_switch_in_place_changes_what_the_same_graphs_compute(
    monkeypatch: pytest.MonkeyPatch, draw_adapter: Callable[..., Any]
) -> None:
    cuda = FakeCuda.installed(monkeypatch)
    backbone: Backbone = load_backbone("test_efficientnet", "random:0")
    adapters: list[Adapter] = [admit(draw_adapter(backbone, "mixed", 4, seed).dump(), backbone) for seed in range(2)]
    images = torch.rand(3, 3, 64, 64)
    graphs = live_graphs(backbone.module, images[:1], torch.float32, max_batch=4)
    swapper, captures = ExactSwapper(backbone), len(cuda.captures)
    for adapter in (*adapters, adapters[0]):
        swapper.mount(adapter)
        expected = backbone.features(images)
        with torch.inference_mode():
            assert torch.allclose(graphs(images), expected, rtol=1e-4, atol=1e-5)
    swapper.unmount()

    assert len(cuda.captures) == captures == 3  # batches of 4, 2 and 1


def test_a_backbone_that_cannot_be_captured_is_computed_without_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda.installed(monkeypatch)
    cuda.faults = [RuntimeError("operation not permitted when stream is capturing")] * 2
    module = torch.nn.Linear(3, 2)

    assert live_graphs(module, torch.ones(1, 3), torch.float32, max_batch=1) is module
