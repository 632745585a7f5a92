"""The card and its driver, and what it reaches in a copy, a matrix product and an upload."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import metadata

import torch

from . import goals
from .bench import Bench

PACKAGES = ("torchvision", "timm", "triton", "numpy", "pillow", "fastapi", "uvicorn")


def head(device: torch.device) -> dict[str, str]:
    """What the figures depend on, for the top of the table."""
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]  # torch's
    found = {
        "card": _card(device),
        "driver": _driver() if device.type == "cuda" else "none",
        "torch": torch.__version__,
        "CUDA, cuDNN": f"{torch.version.cuda}, {cudnn}",
        "threads": f"{torch.get_num_threads()} of {_cores()} cores",
        "python": platform.python_version(),
    }
    return found | {package: _version(package) for package in PACKAGES}


def measure(bench: Bench) -> None:
    numbers, size = (2**12, 64) if bench.dry else (2**29, 8192)
    source = torch.randn(numbers, device=bench.device)
    target = torch.empty_like(source)
    copy_ms = bench.clock.device_ms(lambda: target.copy_(source), 20)
    bench.row("device copy, read and written", 2 * source.nbytes / copy_ms / 1e9, "TB/s", goals.COPY)
    a, b = (torch.randn(size, size, device=bench.device, dtype=torch.bfloat16) for _ in range(2))
    product_ms = bench.clock.device_ms(lambda: a @ b, 20)
    bench.row(f"bfloat16 matrix product {size}", 2 * size**3 / product_ms / 1e9, "TFLOP/s", goals.MATRIX_PRODUCT)
    for pinned in (False,) if bench.dry else (False, True):
        host = torch.randint(0, 255, (numbers // 8,), dtype=torch.uint8)
        host = host.pin_memory() if pinned else host
        device = torch.empty(numbers // 8, dtype=torch.uint8, device=bench.device)
        upload_ms = bench.clock.host_ms(lambda host=host, device=device: device.copy_(host, non_blocking=True), 20)  # type: ignore[misc]  # mypy cannot infer a lambda with defaults
        what = "pinned" if pinned else "pageable"
        goal = goals.PINNED if pinned else goals.PAGEABLE
        bench.row(f"host to device, {what}", host.nbytes / upload_ms / 1e6, "GB/s", goal)


def _card(device: torch.device) -> str:
    if device.type != "cuda":
        return f"none, dry run on {device.type}"
    found = torch.cuda.get_device_properties(device)
    return f"{found.name}, {found.multi_processor_count} SMs, {found.total_memory / 2**30:.0f} GiB"


def _driver() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown, nvidia-smi is missing"
    question = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    answer = subprocess.run(question, capture_output=True, text=True, timeout=20, check=False)
    return answer.stdout.strip().splitlines()[0] if answer.stdout.strip() else "unknown"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"
