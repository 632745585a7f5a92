"""Whole networks that were fine-tuned: timm's, with every tensor changed, and their logits."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn

from lensmount_adapters import Backbone, ExactSwapper, admit

LABELS = ("discs", "bars", "rings")


def tuned(backbone: Backbone, rank: int = 3, size: float = 0.05) -> Any:
    """timm's network with the backbone's weights, each changed; matrices by a change of the given rank."""
    torch.manual_seed(3)
    network = timm.create_model(backbone.name, num_classes=len(LABELS)).eval()
    network.load_state_dict(dict(backbone.tensors), strict=False)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name not in backbone.tensors:
                continue
            change = torch.randn_like(tensor)
            if tensor.ndim > 1:
                matrix = tensor.flatten(1)
                low = torch.randn(len(matrix), rank) @ torch.randn(rank, matrix.shape[1])
                change = low.view(tensor.shape) / rank**0.5
            change *= size * (tensor.abs().mean() + 0.01)
            tensor.add_(change.abs() if name.endswith("running_var") else change)
    return network


def logits_of(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = network(images)
        return logits


def served(data: bytes, backbone: Backbone, images: Tensor) -> Tensor:
    """The logits of an adapter file, mounted."""
    adapter = admit(data, backbone)
    swapper = ExactSwapper(backbone)
    swapper.mount(adapter)
    try:
        return adapter.image_logits(backbone, images)
    finally:
        swapper.unmount()


def difference(found: Tensor, expected: Tensor) -> float:
    """Relative, in Frobenius norms."""
    return float((found - expected).norm() / expected.norm())
