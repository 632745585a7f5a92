"""Torch tensors as images: channels first, in the range of their dtype, or refused with a way out that works."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lensmount_client import InvalidInput
from lensmount_client._files.image import image_bytes


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


@pytest.mark.parametrize("shape", [(5, 7), (1, 5, 7), (3, 5, 7), (4, 5, 7), (3, 5, 3), (3, 3, 3)])
def test_a_tensor_comes_back_from_its_png_bit_for_bit(shape: tuple[int, ...]) -> None:
    tensor = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = tensor.squeeze(0) if shape[0] == 1 else tensor
    found = pixels(image_bytes(tensor))
    assert np.array_equal(found, expected.movedim(0, -1) if expected.dim() == 3 else expected)


def test_16_bits_masks_and_views_are_kept() -> None:
    deep = torch.tensor([[0, 257], [65535, 4]], dtype=torch.uint16)
    assert np.array_equal(pixels(image_bytes(deep)), deep.numpy())
    assert np.array_equal(pixels(image_bytes(torch.eye(3).bool())), np.eye(3, dtype=np.uint8) * 255)
    turned = torch.arange(60, dtype=torch.uint8).reshape(4, 5, 3).permute(2, 0, 1).flip(1)
    assert np.array_equal(pixels(image_bytes(turned)), turned.permute(1, 2, 0))


def test_a_tensor_is_what_its_array_is() -> None:
    array = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    assert image_bytes(torch.from_numpy(array).permute(2, 0, 1)) == image_bytes(array)


REFUSED: dict[str, tuple[Any, str]] = {
    "floats": (torch.zeros(3, 8, 8), r"tensor of float32, .*\(tensor \* 255\).round\(\).to\(torch.uint8\)"),
    "bfloat16": (torch.zeros(3, 8, 8).bfloat16(), "tensor of bfloat16"),
    "signed": (torch.zeros(3, 8, 8).long(), r"tensor of int64, .*Fix: .*tensor.to\(torch.uint8\)"),
    "complex": (torch.zeros(8, 8, dtype=torch.complex64), r"tensor of complex64, .*tensor.abs\(\)"),
    "channels last": (torch.zeros(8, 9, 3).byte(), r"channels first. Fix: tensor.permute\(2, 0, 1\)"),
    "a batch": (torch.zeros(2, 3, 8, 8).byte(), r"a batch of shape \[2, 3, 8, 8\], .*predict_many\(list\(tensor\)"),
    "a batch of one": (torch.zeros(1, 3, 8, 8).byte(), r"Fix: tensor\[0\]"),
    "two channels": (torch.zeros(2, 8, 8).byte(), r"found shape \[2, 8, 8\], expected \[H, W\]"),
    "a volume": (torch.zeros(16, 8, 8).byte(), r"for a volume, give tensor.numpy\(\)"),
    "one dimension": (torch.zeros(8).byte(), r"found shape \[8\]"),
    "nothing": (torch.zeros(3, 0, 8).byte(), r"found shape \[3, 0, 8\]"),
    "on no device": (torch.zeros(3, 8, 8, dtype=torch.uint8, device="meta"), "has no pixels here"),
    "sparse": (torch.zeros(8, 8).byte().to_sparse(), "has no pixels here"),
}


@pytest.mark.parametrize("row", REFUSED)
def test_a_tensor_that_could_mean_two_things_is_refused(row: str) -> None:
    tensor, told = REFUSED[row]
    with pytest.raises(InvalidInput, match=told):
        image_bytes(tensor)


def test_the_ways_out_work() -> None:
    floats = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    assert pixels(image_bytes((floats * 255).round().to(torch.uint8))).shape == (4, 5, 3)
    last = torch.zeros(8, 9, 3).byte()
    assert pixels(image_bytes(last.permute(2, 0, 1))).shape == (8, 9, 3)
    assert image_bytes(torch.zeros(16, 8, 8).byte().numpy()).startswith(b"\x93NUMPY")
