"""The words for heads."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import nn

from lensmount_adapters.adapter.head_text import head_of, parse_head
from lensmount_adapters.adapter.heads import build_head
from lensmount_adapters.adapter.manifest import CosineHead, LinearHead
from lensmount_adapters.errors import TrainingError


def test_the_head_of_the_seed_malaria_is_two_linear_layers_with_norm_activation_and_dropout_between() -> None:
    head = build_head(head_of("mlp:256", 512, 2), 512, 2)

    assert isinstance(head, nn.Sequential)
    assert [type(layer) for layer in head] == [nn.Linear, nn.BatchNorm1d, nn.LeakyReLU, nn.Dropout, nn.Linear]
    slope, dropout = cast(nn.LeakyReLU, head[2]), cast(nn.Dropout, head[3])
    assert (slope.negative_slope, dropout.p) == (0.1, 0.5)
    assert sum(p.numel() for p in head.parameters()) == (512 * 256 + 256) + 2 * 256 + (256 * 2 + 2)


def test_several_widths_are_several_hidden_layers() -> None:
    head = build_head(head_of("mlp:8,4", 12, 3), 12, 3).eval()

    assert [layer.out_features for layer in head.modules() if isinstance(layer, nn.Linear)] == [8, 4, 3]
    assert head(torch.zeros(2, 12)).shape == (2, 3)


def test_linear_and_cosine_heads() -> None:
    assert head_of("linear", 12, 3) == LinearHead()
    assert head_of("cosine", 12, 3) == CosineHead(dim=12)
    assert head_of("cosine:5", 12, 3) == CosineHead(dim=5, projected=True)


@pytest.mark.parametrize("word", ["", "mlp", "mlp:", "mlp:0", "mlp:8,", "mlp:8;4", "linear:3", "tree", "mlp:99999999"])
def test_an_unknown_word_is_refused_with_the_known_ones(word: str) -> None:
    with pytest.raises(TrainingError, match=r"found head .*, expected linear, mlp:WIDTH"):
        parse_head(word)
