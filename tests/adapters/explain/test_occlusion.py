"""Occlusion equals Captum's, and a loop that covers one square at a time."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor

from lensmount_adapters import Backbone
from lensmount_adapters.explain.network import Network
from lensmount_adapters.explain.occlusion import Occlusion

if TYPE_CHECKING:
    from tests.adapters.explain.conftest import DrawExplained, PlainNetwork


def test_a_cell_is_the_mean_fall_of_the_score_over_the_squares_that_cover_it(
    resnet: Backbone, draw_explained: DrawExplained, plain_network: PlainNetwork
) -> None:
    adapter, image = draw_explained(resnet), torch.randn(3, 72, 50)  # 50 pixels are no multiple of 8 cells
    network = plain_network(resnet, adapter)

    @functools.cache
    def score(x: Tensor) -> float:
        with torch.no_grad():
            return float(network(x[None]).softmax(1)[0, 1])

    rows, columns = np.linspace(0, 72, 9).round().astype(int), np.array([0, 6, 12, 19, 25, 31, 38, 44, 50])
    falls: dict[tuple[int, int], list[float]] = {}
    for i in range(7):
        for j in range(7):
            covered = image.clone()
            covered[:, rows[i] : rows[i + 2], columns[j] : columns[j + 2]] = 0
            fall = score(image) - score(covered)
            for cell in ((i, j), (i + 1, j), (i, j + 1), (i + 1, j + 1)):
                falls.setdefault(cell, []).append(fall)

    found = Occlusion().values(Network(resnet).with_adapter(adapter), image, 1)

    assert found.shape == (8, 8)
    for (i, j), each in falls.items():
        assert float(found[i, j]) == pytest.approx(np.mean(each), abs=1e-5)


def test_it_equals_captum_s(
    resnet: Backbone, draw_explained: DrawExplained, plain_network: PlainNetwork, image: Tensor
) -> None:
    attr = pytest.importorskip("captum.attr")
    adapter = draw_explained(resnet)
    network = plain_network(resnet, adapter)
    with torch.no_grad():
        pixels = attr.Occlusion(lambda x: network(x).softmax(1)).attribute(
            image[None], target=1, sliding_window_shapes=(3, 16, 16), strides=(3, 8, 8), baselines=0
        )
    expected = torch.nn.functional.avg_pool2d(pixels[:, :1], 8)[0, 0]

    found = Occlusion().values(Network(resnet).with_adapter(adapter), image, 1)

    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, check_dtype=False)


def test_it_works_with_a_vision_transformer(vit: Backbone, draw_explained: DrawExplained) -> None:
    adapter = draw_explained(vit, size=None)
    image = torch.randn(adapter.manifest.preprocessing.input_shape)

    found = Occlusion().values(Network(vit).with_adapter(adapter), image, 0)

    assert found.shape == (8, 8)
    assert float(found.abs().max()) > 0
