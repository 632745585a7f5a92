"""One kept trunk output: which key it has, and that its file keeps every bit."""

from __future__ import annotations

from itertools import product

import pytest
import safetensors.torch
import torch

from lensmount_adapters import Preprocessing
from lensmount_service.archive.entry import DIGEST_BYTES, KeptOutput, key_of, read, written

RULE = Preprocessing(size=(64, 64), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def test_keys_differ_by_tenant_image_rule_and_trunk() -> None:
    other = RULE.model_copy(update={"resize": "crop"})
    keys = {key_of(*parts) for parts in product(("default", "ward"), ("a" * 64, "b" * 64), (RULE, other), ("t", "u"))}
    assert len(keys) == 16
    assert all(len(key) == 64 for key in keys)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_bit_and_the_dtype_come_back(dtype: torch.dtype) -> None:
    x = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    x[0, 0, :4] = torch.tensor([0.0, -0.0, 1e-30, 6.5]).to(dtype)
    found = read("k", written("k", KeptOutput(x, None)))
    assert found is not None
    assert found.size is None
    assert found.x.dtype is dtype
    assert torch.equal(found.x, x)
    assert torch.equal(found.x.signbit(), x.signbit())


def test_float32_numbers_of_a_trunk_in_bfloat16_take_half_the_bytes() -> None:
    x = torch.randn(1, 100, 10).to(torch.bfloat16).to(torch.float32)
    data = written("k", KeptOutput(x, (1, 2)))
    assert safetensors.torch.load(data[DIGEST_BYTES:])["x"].dtype is torch.bfloat16
    found = read("k", data)
    assert found is not None
    assert found.x.dtype is torch.float32
    assert torch.equal(found.x, x)


def test_an_entry_of_another_key_is_not_read() -> None:
    data = written("k", KeptOutput(torch.zeros(1, 2), (1, 2)))
    assert read("k", data) is not None
    assert read("l", data) is None
