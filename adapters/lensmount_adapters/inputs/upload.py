"""From the host's memory to a device, and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor.to(device)`. A GPU gets it from pinned memory, for which the caller need not wait.

    torch keeps the pinned memory until the copy has ended, and uses it again.
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def download(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors on the host. Those of a GPU, of one dtype, come in one copy, for which the caller waits once.

    A wait takes longer than the copy, and each tensor alone would have its own.
    """
    there = [tensor for tensor in tensors if tensor.is_cuda]
    if not there:
        return list(tensors)
    joined = torch.cat([tensor.reshape(-1) for tensor in there])
    here = torch.empty(joined.shape, dtype=joined.dtype, pin_memory=True).copy_(joined, non_blocking=True)
    torch.cuda.current_stream(joined.device).synchronize()
    parts = iter(torch.split(here.clone(), [tensor.numel() for tensor in there]))  # pinned memory is scarce
    return [next(parts).view(tensor.shape) if tensor.is_cuda else tensor for tensor in tensors]
