"""What a tensor loses when it is stored in a smaller number format, and which tensors therefore stay in float32.

Rounding to `dtype` changes a number by at most `eps / 2` of itself, as long as it lies in the range of the format.
Beyond the range it becomes infinite; close to zero it loses its digits and becomes zero at last. A tensor whose
relative error is above `eps` (1e-3 of float16, 8e-3 of bfloat16) has such numbers and is kept in float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lensmount_adapters.errors import AdapterInvalid

STORED = (torch.float32, torch.float16, torch.bfloat16)
_EXACT = (  # few numbers; a loss would show
    "row_scale",
    "column_scale",
    "running_var",
    "running_mean",
    "logit_scale",
    "trust.scales",
    "trust.residual",
)
_READ = (*STORED, torch.float64)


@dataclass(frozen=True, slots=True)
class Kept:
    """The tensors that stay in float32, with the relative error that `dtype` would have; infinity for an overflow."""

    dtype: torch.dtype
    errors: Mapping[str, float]

    @property
    def text(self) -> str:
        """What was kept and why, in one sentence."""
        word = str(self.dtype).removeprefix("torch.")
        name, worst = max(self.errors.items(), key=lambda pair: pair[1])
        loss = "overflow" if math.isinf(worst) else f"lose {worst:.2g} of its size"
        tensors = "one tensor is" if len(self.errors) == 1 else f"{len(self.errors)} tensors are"
        return (
            f"{tensors} stored as float32 and not as {word}, in which {name} would {loss} "
            f"(at most {torch.finfo(self.dtype).eps:.2g} is allowed)"
        )


def rounded(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> tuple[dict[str, Tensor], Kept]:
    """The tensors as they are stored, on the CPU, and those that are kept in float32 because `dtype` loses too much.

    BatchNorm's statistics, scales of rows and columns and cosine scales are always float32. Raises AdapterInvalid
    (`unsupported_dtype`) for a `dtype` or a tensor that the file cannot hold, such as a whole number or a float64
    number beyond the range of float32.
    """
    if dtype not in STORED:
        raise _unsupported("dtype", dtype, "Fix: choose one of these")
    stored: dict[str, Tensor] = {}
    errors: dict[str, float] = {}
    for name, tensor in tensors.items():
        exact = _float32(name, tensor.detach().to("cpu"))
        small = exact.to(dtype)
        if not name.removesuffix(".delta").endswith(_EXACT):
            error = relative_error(name, exact, small)
            if error <= torch.finfo(dtype).eps:
                stored[name] = small.contiguous()
                continue
            errors[name] = error
        stored[name] = exact.contiguous()
    return stored, Kept(dtype, errors)


def relative_error(name: str, exact: Tensor, small: Tensor) -> float:
    """`|small - exact| / |exact|` in Frobenius norms; infinity if a finite number is not finite in `small`.

    Of factors it is the largest over the ranks, because a rank is as large as the product of its row of A and its
    column of B, each of which may be small.
    """
    if (torch.isfinite(exact) & ~torch.isfinite(small)).any():
        return math.inf
    exact = torch.nan_to_num(exact.double(), 0, 0, 0)  # a value that is not finite is not lost by rounding
    small = torch.nan_to_num(small.double(), 0, 0, 0)
    rank = 1 if name.endswith("lora_B.weight") else 0 if name.endswith("lora_A.weight") else None
    if rank is None or exact.ndim < 2:
        exact, small, rank = exact.reshape(1, -1), small.reshape(1, -1), 0
    exact, small = (each.movedim(rank, 0).flatten(1) for each in (exact, small))  # [rank, numbers]
    loss, size = (small - exact).norm(dim=1), exact.norm(dim=1)
    return float(torch.where(size > 0, loss / size, 0).max())


def _float32(name: str, tensor: Tensor) -> Tensor:
    if tensor.dtype not in _READ:
        raise _unsupported(name, tensor.dtype, "Fix: leave the tensor out, or convert it with .float()")
    exact = tensor.float()
    if not torch.equal(torch.isfinite(exact), torch.isfinite(tensor)):
        largest = float(tensor.abs().max())
        raise AdapterInvalid(
            f"{name}: found {largest:.3g} in {_word(tensor.dtype)}, expected at most "
            f"{torch.finfo(torch.float32).max:.3g}, the largest number of float32. Fix: scale the tensor down",
            code="unsupported_dtype",
        )
    return exact


def _unsupported(name: str, dtype: torch.dtype, fix: str) -> AdapterInvalid:
    expected = ", ".join(_word(each) for each in STORED)
    return AdapterInvalid(f"{name}: found {_word(dtype)}, expected {expected}. {fix}", code="unsupported_dtype")


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
