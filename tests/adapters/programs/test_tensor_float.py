"""TF32 is allowed in convolutions or nowhere, and torch's own reading of the setting still works."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from lensmount_adapters.programs.tensor_float import allow_tf32, tf32_allowed


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize("allowed", [True, False])
def test_only_convolutions_may_round(allowed: bool) -> None:
    allow_tf32(allowed)

    assert torch.backends.cudnn.allow_tf32 is allowed
    assert tf32_allowed() is allowed
    assert (torch.backends.cudnn.conv.fp32_precision == "tf32") is allowed  # type: ignore[attr-defined]  # torch finds it late
    assert torch.backends.cuda.matmul.allow_tf32 is False
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"
