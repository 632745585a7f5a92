"""Reading one tensor of a foreign file, and merging deltas."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lensmount_adapters.errors import AdapterInvalid, AdapterUnsupported
from lensmount_adapters.formulas.module import ForeignModule
from lensmount_adapters.formulas.parts import factors, matrix, merged, sizes, take

CONV = torch.randn(8, 6, 3, 3, dtype=torch.float64)


def module(**parts: torch.Tensor) -> ForeignModule:
    return ForeignModule("layer", parts, CONV)


@pytest.mark.parametrize("shape", [(4, 54), (4, 6, 3, 3), (1, 4, 54), (4, 6, 9, 1)], ids=str)
def test_a_tensor_is_read_in_any_of_the_shapes_that_tools_store(shape: tuple[int, ...]) -> None:
    stored = torch.randn(shape).half()

    found = take(module(down=stored), "down", 4, 54)

    assert found.dtype is torch.float64
    assert torch.equal(found, stored.double().reshape(4, 54))


@pytest.mark.parametrize("shape", [(54, 4), (2, 108), (4, 55), (4, 0), ()], ids=str)
def test_a_tensor_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(AdapterInvalid, match=r"expected \[4, 54\]"):
        take(module(down=torch.zeros(shape)), "down", 4, 54)


@pytest.mark.parametrize("shape", [(), (3,), (2, 2, 2), (0, 4)], ids=str)
def test_only_a_matrix_is_read_as_one(shape: tuple[int, ...]) -> None:
    with pytest.raises(AdapterInvalid, match="found w1 of shape"):
        matrix(module(w1=torch.zeros(shape)), "w1")


def test_a_vector_has_no_factors() -> None:
    with pytest.raises(AdapterUnsupported, match="a linear layer or a convolution"):
        sizes(ForeignModule("norm", {"lora_up.weight": CONV}, torch.ones(8)))


def test_factors_are_kept_up_to_rank_256_and_while_they_are_smaller_than_their_product() -> None:
    for rank, kept in ((4, True), (256, True), (257, False)):
        B, A = torch.randn(8, rank).double(), torch.randn(rank, 54).double()

        deltas = factors(module(), B, A)

        assert ("lora_A.weight" in deltas) == kept
        assert torch.allclose(merged(deltas, CONV), CONV + (B @ A).view(8, 6, 3, 3))


def test_merging_gives_the_weights_of_the_written_formula() -> None:
    A, mid, B = torch.randn(2, 6, 1, 1), torch.randn(2, 2, 3, 3), torch.randn(8, 2, 1, 1)
    down, middle, up = nn.Conv2d(6, 2, 1, bias=False), nn.Conv2d(2, 2, 3, bias=False), nn.Conv2d(2, 8, 1, bias=False)
    x = torch.randn(1, 6, 5, 5).double()
    for conv, weight in ((down, A), (middle, mid), (up, B)):
        conv.weight.data = weight.double()
    rows, columns = torch.rand(8).double(), torch.rand(6).double()
    deltas = {"lora_A.weight": A, "lora_mid.weight": mid, "lora_B.weight": B}
    scales = {"weight.row_scale": rows, "weight.column_scale": columns}

    live = merged({**deltas, **scales}, CONV)

    with torch.no_grad():
        scaled = x * columns.view(1, 6, 1, 1)
        expected = (torch.conv2d(scaled, CONV) + up(middle(down(scaled)))) * rows.view(1, 8, 1, 1)
    assert torch.allclose(torch.conv2d(x, live), expected)
