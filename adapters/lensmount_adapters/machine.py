"""What the processor or the GPU can do, and a name for it under which measurements are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch


def computes_bfloat16(device: torch.device) -> bool:
    """In hardware; elsewhere bfloat16 is emulated, or taken as a hint and ignored."""
    if device.type == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and any(has and "bf16" in name for name, has in _cpu_capabilities().items())


def device_name(device: torch.device) -> str:
    """The model; for CPUs with a digest of the instruction sets, for a virtual machine's CPU may say nothing else."""
    if device.type == "cuda" and torch.cuda.is_available():
        return f"cuda {torch.cuda.get_device_name(device)}"
    if device.type != "cpu":
        return device.type
    capabilities = _cpu_capabilities()
    digest = hashlib.sha256(repr(sorted(capabilities.items())).encode()).hexdigest()[:12]
    return f"cpu {capabilities.get('cpu_name', 'unnamed')} {digest}"


def _cpu_capabilities() -> Mapping[str, object]:
    found: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch we take
    return found
