"""What an exception of a forward pass says of the device: no memory for this batch, or a device that is lost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from lensmount_service.engine.scheduler import QueuedImage

T = TypeVar("T")

TRIED_AGAIN_AFTER = 64  # batches of the size that fits, until one of twice the size is tried

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


def answers(device: torch.device) -> bool:
    """Whether the device still computes: 4 bytes come back from it. A CPU always does."""
    if device.type != "cuda":
        return True
    try:
        return float(torch.ones(1, device=device).cpu()) == 1.0
    except torch.OutOfMemoryError:  # it answers, and has no room for 4 bytes
        return True
    except RuntimeError:
        return False


@dataclass(slots=True)
class MemoryLimit:
    """The numbers in the images of a batch that memory has room for, learned from batches that found too little.

    The engine's thread owns it.
    """

    most: float = math.inf
    _batches: int = 0  # that had about this size since it was last changed

    def parts_of(self, batch: list[QueuedImage[T]]) -> list[list[QueuedImage[T]]]:
        """The batch in parts that fit, in its order. A single image is a part, however large it is."""
        parts: list[list[QueuedImage[T]]] = [[]]
        room = self.most
        for item in batch:
            if parts[-1] and item.image.numel() > room:
                parts.append([])
                room = self.most
            parts[-1].append(item)
            room -= item.image.numel()
        return parts

    def failed(self, batch: Sequence[QueuedImage[T]]) -> None:
        """The batch found too little memory."""
        if len(batch) > 1:
            self.most, self._batches = _numbers(batch) / 2, 0

    def worked(self, batch: Sequence[QueuedImage[T]]) -> None:
        """The batch found memory. After many that use what is allowed, twice as much is: memory may be free again."""
        if 2 * _numbers(batch) > self.most:
            self._batches += 1
            if self._batches == TRIED_AGAIN_AFTER:
                self.most, self._batches = 2 * self.most, 0


def _numbers(batch: Sequence[QueuedImage[T]]) -> int:
    return sum(item.image.numel() for item in batch)
