"""Whether a CUDA GPU may round the factors of float32 arithmetic to 10 bits of mantissa (TF32).

torch does so in convolutions unless it is told otherwise, with errors of 1e-3. Here float32 means float32. The
precision `tf32` allows it in convolutions only: matrix products merge adapters, which stays exact, and the setting is
the same for all threads of the process.
"""

from __future__ import annotations

import torch


def allow_tf32(allowed: bool) -> None:
    """Set it for this process, by torch's older names: TorchInductor reads these."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = allowed


def tf32_allowed() -> bool:
    """Whether convolutions in float32 may use it now."""
    return bool(torch.backends.cudnn.allow_tf32)
