"""`live = base + scale * B @ A` in float32: the arithmetic of a switch from one adapter to another.

| computed by | how | time relative to a plain copy of the base |
|---|---|---|
| `in_two_steps` | torch writes the product into `live` and then adds the base: two writes, one read of `live` | 1.6 |
| delta/addmm_kernel.py | the product stays in registers: the base is read once and `live` is written once | 1.1 |

The kernel computes ranks up to 16 on a CPU, if torch computes with one thread and the extra `llvm` is installed. With
more threads torch splits the two steps among them. Both are within float32 rounding of the sum, and each gives the same
bits whatever `live` contained before.

The kernel is optional. Without the file addmm_kernel.py, or without llvmlite, torch computes everything in two steps.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Protocol

import torch
from torch import Tensor

log = logging.getLogger(__name__)

RANKS = (4, 8, 16)  # one kernel per rank; above 16 the arithmetic takes the time, and torch is better at that
_KERNEL_RANKS = {rank: next(larger for larger in RANKS if larger >= rank) for rank in range(1, RANKS[-1] + 1)}


class AddmmKernel(Protocol):
    """A faster way to compute the sum for contiguous float32 tensors on the CPU, up to the rank it was made for."""

    def planned(self, base: Tensor, B: Tensor, A: Tensor, scale: float, live: Tensor) -> Callable[[], None]:
        """Plan the sum; the arguments are those of `planned_product`."""
        ...


class KernelCache:
    """The kernels of one process, by rank. Each is made once, which takes a tenth of a second.

    Any thread may ask. One lock owns the dictionary and lets one thread at a time make a kernel.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kernels: dict[int, AddmmKernel | None] = {}

    def kernel(self, rank: int) -> AddmmKernel | None:
        """The kernel for one of RANKS, or None if llvmlite is missing or does not work."""
        with self._lock:
            if rank not in self._kernels:
                self._kernels[rank] = _make_kernel(rank)
            return self._kernels[rank]


KERNELS = KernelCache()


def planned_product(base: Tensor, B: Tensor, A: Tensor, scale: float, live: Tensor) -> Callable[[], None]:
    """Plan `live = base + scale * B @ A`, all float32. Calling the plan writes `live`, which overlaps no other tensor.

    base, live: [out, ...]; B: [out, r, *1]; A: [r, ...], with as many numbers in a row as the base. The plan keeps the
    tensors that it reads alive. A caller plans many products first and then calls them in turn: the weights of one
    product push Python's own data out of the caches, which costs up to a fifth of the writing time.
    """
    kernel_rank = _KERNEL_RANKS.get(B.shape[1])
    if kernel_rank is not None and torch.get_num_threads() == 1 and _are_plain(base, B, A, live):
        kernel = KERNELS.kernel(kernel_rank)
        if kernel is not None:
            return kernel.planned(base, B, A, scale, live)
    B, A, base = (tensor.reshape(len(tensor), -1) for tensor in (B, A, base))
    return partial(in_two_steps, base, B, A, scale, live.view(len(live), -1))


def in_two_steps(base: Tensor, B: Tensor, A: Tensor, scale: float, live: Tensor) -> None:
    """Compute the sum without a temporary tensor. This is a tenth faster than addmm, which copies the base first."""
    torch.mm(B, A, out=live)
    torch.add(base, live, alpha=scale, out=live)


def _make_kernel(rank: int) -> AddmmKernel | None:
    try:
        # imported by name: the file may be deleted, and llvmlite need not be installed
        kernel: AddmmKernel = import_module("lensmount_adapters.delta.addmm_kernel").OnePassAddmm(rank)
        return kernel
    except ModuleNotFoundError:
        return None
    except Exception:  # LLVM raises errors of many kinds, and torch gives the same results
        log.warning("could not make a kernel for adapter switches; a switch takes half as long again", exc_info=True)
        return None


def _are_plain(*tensors: Tensor) -> bool:
    return all(x.is_cpu and x.dtype is torch.float32 and x.is_contiguous() for x in tensors)
