"""A fingerprint changes with any bit of any tensor, and is computed as its docstring says."""

from __future__ import annotations

import hashlib

import pytest
import timm
import torch

from lensmount_adapters.backbone.fingerprint import _checksum, fingerprint_of, resident_digest, tensor_digest

NAME = "test_efficientnet"


def flip_a_bit(tensor: torch.Tensor) -> None:
    tensor.view(-1)[:1].view(torch.uint8)[0] ^= 1


def test_the_fingerprint_changes_with_one_bit_of_any_tensor() -> None:
    model = timm.create_model(NAME, num_classes=0)
    before = fingerprint_of(model)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            flip_a_bit(tensor)
            assert fingerprint_of(model) != before
            flip_a_bit(tensor)
    assert fingerprint_of(model) == before


def test_the_fingerprint_is_what_its_docstring_says() -> None:
    model = timm.create_model(NAME, num_classes=0)
    lines = [
        f"{name} {tensor.dtype} {list(tensor.shape)} {hashlib.sha256(tensor.numpy().tobytes()).hexdigest()}\n"
        for name, tensor in sorted(model.state_dict().items())
        if tensor.is_floating_point()
    ]
    assert fingerprint_of(model) == f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def test_a_tensor_s_digest_is_that_of_its_bytes() -> None:
    tensor = torch.arange(6, dtype=torch.float32).view(2, 3)
    assert tensor_digest(tensor) == hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
    assert tensor_digest(tensor.T) == hashlib.sha256(tensor.T.contiguous().numpy().tobytes()).hexdigest()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_the_checksum_of_a_gpu_changes_with_one_bit_and_with_two_words_in_each_others_place(dtype: torch.dtype) -> None:
    tensor = torch.randn(3, 70, generator=torch.Generator().manual_seed(0)).to(dtype)
    before = _checksum(tensor)
    assert _checksum(tensor.clone()) == before

    flip_a_bit(tensor)
    assert _checksum(tensor) != before
    flip_a_bit(tensor)
    tensor[0, [0, 1]] = tensor[0, [1, 0]]
    assert _checksum(tensor) != before


def test_the_checksum_is_what_its_docstring_says() -> None:
    words = torch.tensor([5, -3, 2**31 - 1], dtype=torch.int32)
    assert _checksum(words.view(torch.float32)) == f"sum:{5 - 3 + 2**31 - 1}:{5 - 6 + 3 * (2**31 - 1)}"


def test_on_a_cpu_the_digest_of_what_is_resident_is_the_sha256() -> None:
    tensor = torch.ones(3)

    assert resident_digest(tensor) == tensor_digest(tensor)
