"""The low-rank terms by Triton are those by torch, for every layer that a mixed batch changes; in the interpreter."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lensmount_adapters
from lensmount_adapters.runners.gpu.mixed_triton import TRITON, ops_for
from lensmount_adapters.runners.mixed_ops import TORCH

SLOTS, RANK, ROWS = 3, 2, torch.tensor([2, 0])
NAME = "lensmount_adapters.kernels.mixed_low_rank"


@pytest.fixture(scope="module", autouse=True)
def interpreted() -> Iterator[None]:
    """The kernel runs in Triton's interpreter."""
    pytest.importorskip("triton")
    path = Path(lensmount_adapters.__file__).parent / "kernels" / "mixed_low_rank.py"
    spec = importlib.util.spec_from_file_location(NAME, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        patch.setitem(sys.modules, NAME, module)
        spec.loader.exec_module(module)
        yield


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape) + sum(shape)))


def assert_same(function: str, *arguments: Any) -> None:
    ours, torchs = (getattr(ops, function)(*arguments) for ops in (TRITON, TORCH))

    assert ours.shape == torchs.shape
    assert (ours - torchs).abs().max() <= 1e-5 * torchs.abs().max()


@pytest.mark.parametrize("shape", [(2, 5), (2, 7, 5), (6, 4, 5)], ids=["one token", "tokens", "windows"])
def test_linear_layers(shape: tuple[int, ...]) -> None:
    y = draw(*shape[:-1], 6)
    assert_same("linear", y, draw(*shape), draw(SLOTS * RANK, 5), draw(SLOTS, 6, RANK), ROWS, SLOTS)


@pytest.mark.parametrize("stride", [1, 2])
def test_pointwise_convolutions(stride: int) -> None:
    y = draw(2, 6, 6 // stride, 4 // stride).contiguous(memory_format=torch.channels_last)
    A, B = draw(SLOTS * RANK, 5, 1, 1), draw(SLOTS, 6, RANK, 1, 1)
    assert_same("pointwise", y, draw(2, 5, 6, 4), A, B, ROWS, SLOTS, (stride, stride))


@pytest.mark.parametrize(
    ("kind", "geometry"),
    [
        ("Conv2d", {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}),
        ("Conv2d", {"padding": "same"}),  # by torch
        ("Conv2dSame", {"stride": (1, 1), "padding": (0, 0)}),  # by torch
    ],
)
def test_convolutions(kind: str, geometry: dict[str, Any]) -> None:
    A = draw(SLOTS * RANK, 5, 3, 3).contiguous(memory_format=torch.channels_last)
    B, y = draw(SLOTS, 6, RANK, 1, 1), draw(2, 6, 4, 4)
    assert_same("convolution", y, draw(2, 5, 4, 4), A, B, ROWS, SLOTS, kind, geometry)


def test_convolutions_of_volumes_are_left_to_torch() -> None:
    A, B = draw(SLOTS * RANK, 5, 3, 3, 3), draw(SLOTS, 6, RANK, 1, 1, 1)
    geometry = {"padding": (1, 1, 1)}
    assert_same("convolution", draw(2, 6, 2, 4, 4), draw(2, 5, 2, 4, 4), A, B, ROWS, SLOTS, "Conv3d", geometry)


def test_a_cpu_computes_them_by_torch() -> None:
    assert ops_for(torch.device("cpu")) is TORCH
    assert ops_for(torch.device("cuda")) is TRITON
