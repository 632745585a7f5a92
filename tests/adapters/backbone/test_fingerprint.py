"""A fingerprint changes with any bit of any tensor, and is computed as its docstring says."""

from __future__ import annotations

import hashlib

import timm
import torch

from lensmount_adapters.backbone.fingerprint import fingerprint_of, tensor_digest

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
