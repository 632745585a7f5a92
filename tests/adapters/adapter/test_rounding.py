"""A tensor keeps float32 where a smaller format would lose more than it rounds off; what cannot be stored is named."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from lensmount_adapters.adapter.rounding import relative_error, rounded
from lensmount_adapters.errors import AdapterInvalid

FACTOR = "layer.lora_B.weight"


def normal(std: float, *shape: int) -> Tensor:
    return std * torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_usual_tensors_are_rounded_and_nothing_is_said(dtype: torch.dtype) -> None:
    tensors = {FACTOR: normal(1e-2, 64, 8), "head.weight": normal(1.0, 3, 64), "zero.bias.delta": torch.zeros(4)}
    stored, kept = rounded(tensors, dtype)
    assert kept.errors == {}
    assert all(torch.equal(stored[name], tensor.to(dtype)) for name, tensor in tensors.items())


@pytest.mark.parametrize("std", [1e-6, 1e-7, 1e-30])
def test_numbers_close_to_zero_stay_float32_in_float16_and_fit_bfloat16(std: float) -> None:
    B = normal(std, 512, 4)
    stored, kept = rounded({FACTOR: B}, torch.float16)
    lost = np.linalg.norm(B.numpy().astype(np.float16).astype(np.float64) - B.numpy()) / np.linalg.norm(B.double())
    assert lost > 0.01
    assert kept.errors[FACTOR] >= 0.99 * lost
    assert torch.equal(stored[FACTOR], B)
    assert rounded({FACTOR: B}, torch.bfloat16)[1].errors == {}


def test_numbers_beyond_float16_stay_float32() -> None:
    stored, kept = rounded({FACTOR: torch.full((4, 2), 1e5), "head.bias": torch.ones(3)}, torch.float16)
    assert torch.equal(stored[FACTOR], torch.full((4, 2), 1e5))
    assert stored["head.bias"].dtype is torch.float16
    assert kept.errors == {FACTOR: math.inf}
    assert kept.text.startswith(f"one tensor is stored as float32 and not as float16, in which {FACTOR} would overflow")


def test_a_small_rank_beside_a_large_one_counts_by_itself() -> None:
    """The second column of B is a ten-millionth of the first; its row of A may be as many times larger."""
    B = normal(1.0, 64, 2) * torch.tensor([1.0, 1e-7])
    whole = relative_error("head.weight", B, B.half())
    assert whole < 1e-3
    assert relative_error(FACTOR, B, B.half()) > 0.05
    assert relative_error("layer.lora_A.weight", B.T, B.T.half()) > 0.05
    assert rounded({FACTOR: B}, torch.float16)[0][FACTOR].dtype is torch.float32


@pytest.mark.parametrize(
    "name",
    [
        "bn.running_var.delta",
        "bn.running_mean.delta",
        "head.1.running_var",
        "head.logit_scale",
        "conv.weight.row_scale",
        "conv.weight.column_scale",
    ],
)
def test_statistics_and_scales_are_always_float32(name: str) -> None:
    stored, kept = rounded({name: torch.ones(4)}, torch.float16)
    assert stored[name].dtype is torch.float32
    assert kept.errors == {}


def test_float64_is_rounded_to_the_format_that_is_asked_for() -> None:
    exact = normal(1.0, 8, 8).double() / 3
    assert torch.equal(rounded({"head.weight": exact}, torch.float32)[0]["head.weight"], exact.float())
    assert rounded({"head.weight": exact}, torch.float16)[0]["head.weight"].dtype is torch.float16


def test_a_number_beyond_float32_is_refused_by_name() -> None:
    with pytest.raises(AdapterInvalid, match=r"head.bias: found 1e\+300 in float64, expected at most 3.4e\+38.*Fix"):
        rounded({"head.bias": torch.tensor([1e300], dtype=torch.float64)}, torch.float32)


def test_whole_numbers_are_refused_by_name_and_the_advice_works() -> None:
    count = torch.tensor([3])
    with pytest.raises(AdapterInvalid, match=r"bn.num_batches_tracked: found int64, expected float32.*\.float\(\)"):
        rounded({"bn.num_batches_tracked": count}, torch.float16)
    assert rounded({"bn.num_batches_tracked": count.float()}, torch.float16)[1].errors == {}


def test_a_format_that_files_do_not_have_is_refused() -> None:
    with pytest.raises(AdapterInvalid, match="dtype: found float64, expected float32, float16, bfloat16") as caught:
        rounded({}, torch.float64)
    assert caught.value.code == "unsupported_dtype"


def test_numbers_that_are_not_finite_are_left_for_admission_to_refuse() -> None:
    stored, kept = rounded({FACTOR: torch.tensor([[float("nan"), 1.0]])}, torch.float16)
    assert kept.errors == {}
    assert torch.isnan(stored[FACTOR]).any()
