"""The precision of training, float32 or bfloat16: as asked for, or measured on a few steps of the model to train."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from lensmount_adapters.dtypes import BFLOAT16, FLOAT32, full_word
from lensmount_adapters.errors import TrainingError

PRECISIONS: dict[str, torch.dtype] = {word: getattr(torch, word) for word in (FLOAT32, BFLOAT16)}
MIN_GAIN = 1.2  # bfloat16 has 8 bits of mantissa, so it must be clearly faster to be chosen


def choose_precision(
    asked: str, step: Callable[[torch.dtype], None], wait: Callable[[], None] = lambda: None
) -> torch.dtype:
    """The format for "float32", "bfloat16" or "auto": bfloat16 if `step` runs more than 1.2 times as fast with it.

    `step(dtype)` does one forward and backward pass and changes nothing. `wait` returns once it is computed: a
    GPU's calls only start work. Raises TrainingError for another word.
    """
    if asked != "auto":
        return precision_of(asked)
    seconds = {dtype: _fastest(step, dtype, wait) for dtype in PRECISIONS.values()}
    return torch.bfloat16 if seconds[torch.float32] > MIN_GAIN * seconds[torch.bfloat16] else torch.float32


def precision_of(word: str) -> torch.dtype:
    """The format of "float32", "bfloat16" or one of their short forms. Raises TrainingError for another word."""
    if full_word(word) not in PRECISIONS:
        raise TrainingError(f"found precision {word!r}, expected auto, {' or '.join(PRECISIONS)}")
    return PRECISIONS[full_word(word)]


def precision_name(dtype: torch.dtype) -> str:
    return next(name for name, value in PRECISIONS.items() if value is dtype)


def _fastest(
    step: Callable[[torch.dtype], None], dtype: torch.dtype, wait: Callable[[], None], rounds: int = 2
) -> float:
    step(dtype)  # warm-up: the first pass includes allocations and the choice of kernels
    wait()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        step(dtype)
        wait()
        times.append(time.perf_counter() - started)
    return min(times)
