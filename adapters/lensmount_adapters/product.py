"""`live = base + scale * B @ A` in float32: what a switch is made of.

| way | how | time, beside a plain copy of the base |
|---|---|---|
| `in_two_steps` | torch's product into `live`, then the base added: `live` is written, read and written again | 1.6 |
| `OnePass` | the product stays in registers: the base is read once, `live` is written once | 1.1 |

One pass is taken for ranks up to 16 on a CPU where torch computes with one thread and the extra `llvm` is installed;
with more threads torch shares the two steps among them. Both are within float32 rounding of the sum, and each gives the
same bits whatever was in `live` before.
"""

from __future__ import annotations

import logging
import threading
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from lensmount_adapters.machine import page_out

log = logging.getLogger(__name__)

RANKS = (4, 8, 16)  # a kernel each; above, it is arithmetic that takes the time, and torch is better at that
LONG_ROWS = 2048  # columns
_making = threading.Lock()


def write_product(base: Tensor, B: Tensor, A: Tensor, scale: float, live: Tensor) -> None:
    """`live = base + scale * B @ A`: [out, in], [out, r], [r, in], [out, in], all float32; `live` overlaps no other."""
    room = next((rank for rank in RANKS if rank >= B.shape[1]), None)
    fits = room is not None and torch.get_num_threads() == 1 and all(map(_is_plain, (base, B, A, live)))
    kernel = one_pass(room) if room is not None and fits else None
    (kernel or in_two_steps)(base, B, A, scale, live)


def in_two_steps(base: Tensor, B: Tensor, A: Tensor, scale: float, live: Tensor) -> None:
    """No temporary; a tenth faster than addmm, which copies the base first."""
    torch.mm(B, A, out=live)
    torch.add(base, live, alpha=scale, out=live)


class OnePass:
    """`OnePass(rank)(base, B, A, scale, live)`: for ranks up to `rank`, all tensors float32, contiguous, on the CPU."""

    def __init__(self, rank: int) -> None:
        from lensmount_adapters.product_kernel import compiled  # llvmlite need not be there

        self._rank = rank
        self._short, self._long = compiled(rank, 1), compiled(rank, 8)
        page_out("libllvmlite")

    def __call__(self, base: Tensor, B: Tensor, A: Tensor, scale: float, live: Tensor) -> None:
        if scale != 1:
            B = B * scale
        if missing := self._rank - B.shape[1]:
            B, A = F.pad(B, (0, missing)), F.pad(A, (0, 0, 0, missing))
        rows, columns = base.shape
        kernel = self._long if columns >= LONG_ROWS else self._short
        kernel(base.data_ptr(), B.data_ptr(), A.data_ptr(), live.data_ptr(), rows, columns)


def one_pass(rank: int) -> OnePass | None:
    """For one of RANKS; made once, in a tenth of a second. None where llvmlite is not there or does not work."""
    with _making:
        return _one_pass(rank)


@cache
def _one_pass(rank: int) -> OnePass | None:
    try:
        return OnePass(rank)
    except ModuleNotFoundError:
        return None
    except Exception:  # LLVM has errors of many kinds, and torch gives the same answers
        log.warning("no kernel was made; a switch takes half as long again", exc_info=True)
        return None


def _is_plain(tensor: Tensor) -> bool:
    return tensor.is_cpu and tensor.dtype is torch.float32 and tensor.is_contiguous()
