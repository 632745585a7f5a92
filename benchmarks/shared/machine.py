"""Describes in one line the machine of a measurement; a number means nothing without it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def describe() -> str:
    """Processor, cores, threads in use, versions and the current load."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return (
        f"{_processor()}, {cores()} cores, {torch.get_num_threads()} threads, load {load:.1f}, "
        f"torch {torch.__version__}, Python {platform.python_version()}"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()
