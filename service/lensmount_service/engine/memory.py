"""What an exception of a forward pass says of the device: no memory for this batch, or a device that is lost."""

from __future__ import annotations

import torch

_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")
_LOST = (  # sticky errors: every later call fails too, until the process is gone (pytorch/pytorch#17425)
    *("device-side assert", "illegal memory access", "unspecified launch failure", "misaligned address"),
    *("illegal instruction", "hardware stack error", "uncorrectable ecc error", "device is lost", "gpu is lost"),
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch may succeed. Libraries report it as errors of several classes."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _NO_MEMORY)


def is_device_lost(error: BaseException) -> bool:
    """Whether the device answers no more in this process, so that only a new process helps."""
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _LOST)
