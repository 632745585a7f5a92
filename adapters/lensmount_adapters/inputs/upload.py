"""From the host's memory to a device."""

from __future__ import annotations

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor.to(device)`. A GPU gets it from pinned memory, for which the caller need not wait.

    torch keeps the pinned memory until the copy has ended, and uses it again.
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
