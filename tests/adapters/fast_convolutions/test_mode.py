"""A mode sees the calls of one function, by torch's names, and leaves to torch what it does not compute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lensmount_adapters.fast_convolutions.mode import FastConvolution


class Watched(FastConvolution):
    """Answers with zeros for a stride of 2 and leaves everything else to torch."""

    def __init__(self, enabled: bool = True) -> None:
        super().__init__(torch.conv2d, enabled)
        self.seen: list[set[str]] = []

    def compute(self, arguments: Mapping[str, Any]) -> Tensor | None:
        self.seen.append(set(arguments))
        return torch.zeros(1) if arguments.get("stride") == 2 else None


X, W = torch.ones(1, 1, 4, 4), torch.ones(1, 1, 3, 3)


def test_what_the_mode_computes_replaces_torch_s_result() -> None:
    with Watched():
        assert torch.equal(F.conv2d(X, W, stride=2), torch.zeros(1))


def test_what_the_mode_leaves_is_computed_by_torch() -> None:
    with Watched() as mode:
        assert torch.equal(F.conv2d(X, W, None, 1), torch.full((1, 1, 2, 2), 9.0))
        assert torch.equal(F.relu(-X), torch.zeros_like(X))
    assert mode.seen == [{"input", "weight", "bias", "stride"}]  # by name, however they are passed; relu is not asked


def test_a_mode_that_is_off_and_one_that_was_left_see_nothing() -> None:
    with Watched(enabled=False) as mode:
        assert F.conv2d(X, W, stride=2).shape == (1, 1, 1, 1)
    assert F.conv2d(X, W, stride=2).shape == (1, 1, 1, 1)
    assert mode.seen == []
