"""Tracing: a network that cannot be traced, or whose copy computes something else, is refused in one line."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lensmount_adapters import Adapter, Backbone
from lensmount_adapters.errors import ExportError
from lensmount_adapters.export.network import Network
from lensmount_adapters.export.trace import check_same, example_of, traced


class Refuses(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        raise RuntimeError("this network\nhas its own opinion")


@pytest.fixture
def network(small: Any, draw_on: Any) -> Network:
    backbone: Backbone = small("test_resnet")
    adapter: Adapter = draw_on(backbone, "head")
    return Network(adapter, backbone)


def test_what_the_network_says_is_passed_on_in_one_line(network: Network) -> None:
    network.features = Refuses()

    with pytest.raises(ExportError, match=r"onnx: found a network .*\(this network has its own opinion\)"):
        traced(network, torch.zeros(2, 3, 32, 32), "onnx")


def test_other_logits_than_the_network_s_are_refused(network: Network) -> None:
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        logits = network(images)[0]

    check_same("onnx", network, images, logits)
    with pytest.raises(ExportError, match="found logits that differ by"):
        check_same("onnx", network, images, logits + 0.01 * logits.abs().max())


def test_the_example_has_the_size_of_the_adapter_s_input(small: Any, draw_on: Any) -> None:
    adapter = draw_on(small("test_resnet"), "head", preprocessing={"size": [48, 80]})

    assert example_of(adapter, 3).shape == (3, 3, 48, 80)
    assert torch.equal(example_of(adapter), example_of(adapter))
