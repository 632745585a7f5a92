"""What the processor or the GPU can do, a name for it under which measurements are kept, and memory given back."""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
from collections.abc import Mapping

import torch

_WITHOUT_BFLOAT16 = frozenset(("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI"))


def computes_bfloat16(device: torch.device) -> bool:
    """In hardware; elsewhere bfloat16 is emulated, or taken as a hint and ignored."""
    if device.type == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and any(has and "bf16" in name for name, has in _cpu_capabilities().items())


def masks_bfloat16() -> bool:
    """Whether the environment keeps oneDNN, which computes torch's bfloat16, from the instructions for it.

    `ONEDNN_MAX_CPU_ISA=AVX2` makes a processor with AMX compute as one without does: so does `make test-avx2`.
    """
    return any(
        os.environ.get(name, "").upper() in _WITHOUT_BFLOAT16 for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
    )


def device_name(device: torch.device) -> str:
    """The model; for CPUs with a digest of the instruction sets, for a virtual machine's CPU may say nothing else."""
    if device.type == "cuda" and torch.cuda.is_available():
        return f"cuda {torch.cuda.get_device_name(device)}"
    if device.type != "cpu":
        return device.type
    capabilities = _cpu_capabilities()
    digest = hashlib.sha256(repr(sorted(capabilities.items())).encode()).hexdigest()[:12]
    return f"cpu {capabilities.get('cpu_name', 'unnamed')} {digest}"


def release_memory() -> None:
    """Let the C library give freed memory back to the system: admitting 100 adapters leaves 60 MB of it behind.

    It does so with glibc; a call takes 1 to 15 ms.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _cpu_capabilities() -> Mapping[str, object]:
    found: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch we take
    return {name: False if "bf16" in name else has for name, has in found.items()} if masks_bfloat16() else found
