"""`live = base + scale * B @ A` in float32: what a switch is made of.

| way | how | time, beside a plain copy of the base |
|---|---|---|
| `in_two_steps` | torch's product into `live`, then the base added: `live` is written, read and written again | 1.6 |
| `OnePassAddmm` | the product stays in registers: the base is read once, `live` is written once | 1.1 |

One pass is taken for ranks up to 16 on a CPU where torch computes with one thread and the extra `llvm` is installed;
with more threads torch shares the two steps among them. Both are within float32 rounding of the sum, and each gives the
same bits whatever was in `live` before.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lensmount_adapters.machine import page_out

log = logging.getLogger(__name__)

RANKS = (4, 8, 16)  # a kernel each; above, it is arithmetic that takes the time, and torch is better at that
_ROOM = {rank: next(room for room in RANKS if room >= rank) for rank in range(1, RANKS[-1] + 1)}
LONG_ROWS = 2048  # columns
_making = threading.Lock()


def planned_product(base: Tensor, B: Tensor, A: Tensor, scale: float, live: Tensor) -> Callable[[], None]:
    """`live = base + scale * B @ A`, all float32, written when the plan is called; `live` overlaps no other.

    base, live: [out, ...]; B: [out, r, *1]; A: [r, ...], with as much in a row as the base has. The plan holds what it
    reads. Many are planned first and called in turn after: the weights of one push Python's own data out of the
    caches, which costs as much as a fifth of the writing.
    """
    room = _ROOM.get(B.shape[1])
    if room is not None and torch.get_num_threads() == 1 and _are_plain(base, B, A, live):
        kernel = one_pass(room)
        if kernel is not None:
            return kernel.planned(base, B, A, scale, live)
    B, A, base = (tensor.reshape(len(tensor), -1) for tensor in (B, A, base))
    return partial(in_two_steps, base, B, A, scale, live.view(len(live), -1))


def in_two_steps(base: Tensor, B: Tensor, A: Tensor, scale: float, live: Tensor) -> None:
    """No temporary; a tenth faster than addmm, which copies the base first."""
    torch.mm(B, A, out=live)
    torch.add(base, live, alpha=scale, out=live)


class OnePassAddmm:
    """`OnePassAddmm(rank).planned(base, B, A, scale, live)()`, shapes as in `planned_product`.

    For ranks up to `rank`, all tensors float32, contiguous, on the CPU.
    """

    def __init__(self, rank: int) -> None:
        from lensmount_adapters.delta.addmm_kernel import compiled  # llvmlite need not be there

        self._rank = rank
        self._short, self._long = compiled(rank, 1), compiled(rank, 8)
        page_out("libllvmlite")

    def planned(self, base: Tensor, B: Tensor, A: Tensor, scale: float, live: Tensor) -> Callable[[], None]:
        rows = base.shape[0]
        columns = base.numel() // rows
        if missing := self._rank - B.shape[1]:
            B, A = F.pad(B.view(rows, -1), (0, missing)), F.pad(A.view(-1, columns), (0, 0, 0, missing))
        kernel = self._long if columns >= LONG_ROWS else self._short
        read = (base, B, A, live)
        return partial(_call, kernel, read, *(tensor.data_ptr() for tensor in read), scale, rows, columns)


def _call(kernel: Callable[..., None], read: tuple[Tensor, ...], *arguments: Any) -> None:
    """`read`: what the pointers among the arguments are into, held until now."""
    kernel(*arguments)


def one_pass(rank: int) -> OnePassAddmm | None:
    """For one of RANKS; made once, in a tenth of a second. None where llvmlite is not there or does not work."""
    with _making:
        return _one_pass(rank)


@cache
def _one_pass(rank: int) -> OnePassAddmm | None:
    try:
        return OnePassAddmm(rank)
    except ModuleNotFoundError:
        return None
    except Exception:  # LLVM has errors of many kinds, and torch gives the same answers
        log.warning("no kernel was made; a switch takes half as long again", exc_info=True)
        return None


def _are_plain(*tensors: Tensor) -> bool:
    return all(x.is_cpu and x.dtype is torch.float32 and x.is_contiguous() for x in tensors)
