"""A target knows the module it belongs to and the number of the layer's outputs, as torch counts them."""

from __future__ import annotations

import pytest
from torch import nn

from lensmount_adapters.backbone.target import Layer, Target

LAYERS = [
    (nn.Linear(5, 7), Layer.LINEAR, 7),
    (nn.Conv2d(6, 8, 3), Layer.CONV, 8),
    (nn.Conv2d(6, 12, 3, groups=3), Layer.CONV, 12),
    (nn.ConvTranspose2d(6, 8, 2), Layer.CONV_TRANSPOSED, 8),
    (nn.ConvTranspose2d(6, 12, 2, groups=3), Layer.CONV_TRANSPOSED, 12),
    (nn.BatchNorm2d(9), Layer.BATCH_NORM, 9),
]


@pytest.mark.parametrize(("module", "layer", "outputs"), LAYERS, ids=str)
def test_out_features_are_the_outputs_of_the_layer(module: nn.Module, layer: Layer, outputs: int) -> None:
    (shape, groups) = tuple(module.get_parameter("weight").shape), getattr(module, "groups", 1)
    assert Target("a.weight", shape, layer, groups).out_features == outputs


def test_the_module_is_the_name_without_the_parameter() -> None:
    assert Target("layer3.0.conv1.weight", (8, 8), Layer.LINEAR).module == "layer3.0.conv1"
    assert Target("weight", (8, 8), Layer.LINEAR).module == ""
