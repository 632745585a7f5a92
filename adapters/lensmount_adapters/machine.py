"""What the processor or GPU can compute, its name in stored measurements, and what the system does for a process."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import sys
import threading
from collections.abc import Mapping

import torch

LOWEST = 19  # niceness: the time that nobody else asks for
LOW = 10  # a tenth of a core that others want: for programs that are compiled while requests are answered

_WITHOUT_BFLOAT16 = frozenset(("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI"))


def choose_device(device: str) -> str:
    """Return the device; "auto" becomes CUDA if there is a CUDA device, otherwise the CPU."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def computes_bfloat16(device: torch.device) -> bool:
    """Return True if the device computes bfloat16 in hardware.

    Without hardware support, bfloat16 is emulated, or treated as a hint and ignored.
    """
    if device.type == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and any(has and "bf16" in name for name, has in _cpu_capabilities().items())


def masks_bfloat16() -> bool:
    """Return True if the environment stops oneDNN, which computes torch's bfloat16, from using bfloat16 instructions.

    `ONEDNN_MAX_CPU_ISA=AVX2` makes a processor with AMX compute like one without it. `make test-avx2` does the same.
    """
    return any(
        os.environ.get(name, "").upper() in _WITHOUT_BFLOAT16 for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
    )


def device_name(device: torch.device) -> str:
    """Return the model name.

    For CPUs a digest of the instruction sets follows, because a virtual machine's CPU may not state anything else.
    """
    if device.type == "cuda" and torch.cuda.is_available():
        return f"cuda {torch.cuda.get_device_name(device)}"
    if device.type != "cpu":
        return device.type
    capabilities = _cpu_capabilities()
    digest = hashlib.sha256(repr(sorted(capabilities.items())).encode()).hexdigest()[:12]
    return f"cpu {capabilities.get('cpu_name', 'unnamed')} {digest}"


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that a GPU has left for this process and others; None for a CPU."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return int(free)


def bound_memory(device: torch.device, share: float) -> None:
    """Let this process take at most this share of a GPU's memory. Does nothing on a CPU."""
    if device.type == "cuda" and share < 1:
        torch.cuda.set_per_process_memory_fraction(share, device)


def release_memory() -> None:
    """Make the C library return freed memory to the system. Admitting 100 adapters leaves 60 MB of freed memory.

    It works with glibc only. A call takes 1 to 15 ms.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def lower_priority(niceness: int = LOWEST) -> None:
    """Let other threads of the machine go before this thread and those that it starts."""
    if sys.platform == "linux":  # where a priority belongs to a thread and not to its process
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)


def _cpu_capabilities() -> Mapping[str, object]:
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # missing in older torch
    if not masks_bfloat16():
        return capabilities
    return {name: False if "bf16" in name else has for name, has in capabilities.items()}
