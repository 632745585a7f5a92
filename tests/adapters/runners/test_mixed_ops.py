"""Each operation on a batch of many adapters gives every sample what its own tensors give it alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lensmount_adapters.runners import mixed_ops

SLOTS, RANK, ROWS = 3, 2, (2, 0, 2, 1)
GEOMETRY: dict[str, Any] = {"stride": (2, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
inf = float("inf")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def rows() -> Tensor:
    return torch.tensor(ROWS)


@pytest.fixture
def mask() -> Tensor:
    return torch.eye(SLOTS, dtype=torch.float64).repeat_interleave(RANK, dim=1)[list(ROWS)]


def each(*samples: Tensor) -> Tensor:
    return torch.cat(samples)


def test_a_mask_says_the_row_of_each_sample(mask: Tensor) -> None:
    assert mixed_ops.slot_rows(mask, SLOTS).tolist() == list(ROWS)


def test_every_form_of_a_convolution_s_low_rank_term_is_two_convolutions(rows: Tensor, mask: Tensor) -> None:
    x, y = normal(4, 3, 5, 6), normal(4, 7, 3, 6, seed=1)
    A, B = normal(SLOTS * RANK, 3, 3, 3, seed=2), normal(SLOTS, 7, RANK, 1, 1, seed=3)
    expected = each(
        *(
            y[i : i + 1] + F.conv2d(F.conv2d(x[i : i + 1], A.view(SLOTS, RANK, 3, 3, 3)[row], **GEOMETRY), B[row])
            for i, row in enumerate(ROWS)
        )
    )

    looked_up = mixed_ops.add_convolution(y, x, A, B, rows, SLOTS, "Conv2d", GEOMETRY)
    concatenated = mixed_ops.add_concatenated(y, x, A, torch.cat(tuple(B), 1), mask, "Conv2d", GEOMETRY)

    torch.testing.assert_close(looked_up, expected)
    torch.testing.assert_close(concatenated, expected)


def test_the_low_rank_term_of_a_pointwise_convolution_and_of_a_linear_layer(rows: Tensor) -> None:
    x, A, B = normal(4, 3, 5, 6), normal(SLOTS * RANK, 3, 1, 1, seed=2), normal(SLOTS, 7, RANK, 1, 1, seed=3)
    y = normal(4, 7, 3, 6, seed=1)
    products = [(B[row, :, :, 0, 0] @ A.view(SLOTS, RANK, 3)[row]).view(7, 3, 1, 1) for row in ROWS]
    expected = each(
        *(y[i : i + 1] + F.conv2d(x[i : i + 1], product, stride=(2, 1)) for i, product in enumerate(products))
    )
    torch.testing.assert_close(mixed_ops.add_pointwise(y, x, A, B, rows, SLOTS, (2, 1)), expected)

    tokens, out = normal(8, 5, 3), normal(8, 5, 7, seed=1)  # two windows for each sample
    expected = each(
        *(out[2 * i : 2 * i + 2] + tokens[2 * i : 2 * i + 2] @ p.view(7, 3).T for i, p in enumerate(products))
    )
    found = mixed_ops.add_linear(out, tokens, A.view(-1, 3), B.view(SLOTS, 7, RANK), rows, SLOTS)
    torch.testing.assert_close(found, expected)


def test_a_grouped_convolution_has_the_kernels_of_the_sample_s_slot(rows: Tensor, mask: Tensor) -> None:
    x, kernels, shape = normal(4, 4, 5, 6), normal(SLOTS, 8, 2 * 9, seed=1), (8, 2, 3, 3)
    geometry = {**GEOMETRY, "groups": 2}
    expected = each(*(F.conv2d(x[i : i + 1], kernels[row].view(shape), None, **geometry) for i, row in enumerate(ROWS)))

    torch.testing.assert_close(mixed_ops.convolve_each(x, kernels, rows, shape, "Conv2d", geometry), expected)
    torch.testing.assert_close(mixed_ops.convolve_in_turn(x, kernels, mask, shape, "Conv2d", geometry), expected)


def test_gains_and_shifts_are_broadcast_over_positions_or_tokens(rows: Tensor) -> None:
    table, maps, tokens = normal(SLOTS, 7), normal(4, 7, 2, 3, seed=1), normal(8, 5, 7, seed=1)
    chosen = table[rows]

    torch.testing.assert_close(mixed_ops.scale(maps, table, rows, 1), maps * chosen[:, :, None, None])
    torch.testing.assert_close(mixed_ops.shift(maps, table, rows, 1), maps + chosen[:, :, None, None])
    doubled = chosen.repeat_interleave(2, 0)[:, None]  # two windows for each sample
    torch.testing.assert_close(mixed_ops.scale(tokens, table, rows, -1), tokens * doubled)
    torch.testing.assert_close(mixed_ops.shift(tokens, table, rows, -1), tokens + doubled)
    torch.testing.assert_close(mixed_ops.add_bias(maps, table[0]), maps + table[0].view(1, 7, 1, 1))


def test_infinite_factors_in_another_slot_do_not_become_a_nan(rows: Tensor, mask: Tensor) -> None:
    x, y = normal(4, 3, 5, 5), normal(4, 7, 5, 5, seed=1)
    A, B = normal(SLOTS * RANK, 3, 1, 1, seed=2), normal(7, SLOTS * RANK, 1, 1, seed=3)
    unhurt = mixed_ops.add_concatenated(y, x, A, B, mask, "Conv2d", {})
    A[RANK : 2 * RANK] = inf  # slot 1, which only the last sample uses

    hurt = mixed_ops.add_concatenated(y, x, A, B, mask, "Conv2d", {})

    assert torch.equal(hurt[:3], unhurt[:3])
    assert not torch.isfinite(hurt[3]).all()
