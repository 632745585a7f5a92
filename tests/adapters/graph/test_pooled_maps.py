"""The last map is found in networks that average it, and in no others."""

from __future__ import annotations

import re

import pytest
import torch

from lensmount_adapters import load_backbone
from lensmount_adapters.errors import ExplainError
from lensmount_adapters.graph.pooled_maps import find_maps
from lensmount_adapters.graph.segments import Segments


@pytest.mark.parametrize("name", ["resnet10t", "test_efficientnet", "test_resnet"])
def test_the_mean_of_the_last_map_is_the_features(name: str) -> None:
    backbone = load_backbone(name, "random:0")
    images = torch.randn(2, *backbone.preprocessing.input_shape)
    maps = find_maps(Segments(backbone.module), backbone)
    with torch.no_grad():
        last, finer = maps.to_last(images), maps.to_finer(images)
        features = maps.from_finer(finer)

    assert last.shape[2:] == maps.grid
    assert min(finer.shape[2] / last.shape[2], finer.shape[3] / last.shape[3]) >= 1.5
    torch.testing.assert_close(last.mean((2, 3)), backbone.features(images))
    torch.testing.assert_close(features, backbone.features(images))


@pytest.mark.parametrize("name", ["test_vit", "mobilenetv3_small_050"])  # a layer follows the second one's mean
def test_a_network_that_does_not_average_its_last_map_is_refused_with_a_method_that_works(name: str) -> None:
    backbone = load_backbone(name, "random:0")

    with pytest.raises(ExplainError, match=re.escape(name)) as caught:
        find_maps(Segments(backbone.module), backbone)

    assert "Fix: the method occlusion" in str(caught.value)
    assert caught.value.code == "explanation_not_possible"
