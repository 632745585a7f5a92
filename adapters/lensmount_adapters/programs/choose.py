"""Which executor computes here: the one asked for by name, or the fastest one measured on this machine."""

from __future__ import annotations

from pathlib import Path

import torch

from lensmount_adapters.dtypes import WORDS, full_word
from lensmount_adapters.errors import ExecutorUnavailable
from lensmount_adapters.machine import computes_bfloat16, device_name
from lensmount_adapters.programs.eager import Eager
from lensmount_adapters.programs.executor import Executor
from lensmount_adapters.programs.race import fastest, load_choice, save_choice

NAMES = ("auto", "eager", "openvino", "compile", "cudagraphs")


PRECISIONS: dict[str, torch.dtype] = {word: getattr(torch, word) for word in WORDS}


def choose_executor(
    name: str, precision: str, device: str | torch.device, threads: int, cache: Path | None
) -> Executor:
    """An executor by its name and precision; "auto" takes what is installed and measurably pays on this machine.

    `threads` are OpenVINO's own, torch has its setting. `cache` is the folder for programs and for what was measured.
    Raises ExecutorUnavailable with the cure where what is asked for cannot be had.
    """
    device, precision = torch.device(device), full_word(precision)
    if name not in NAMES or precision not in ("auto", *PRECISIONS):
        raise ExecutorUnavailable(
            f"found executor {name!r} with precision {precision!r}, expected one of {', '.join(NAMES)} "
            f"with auto, {', '.join(PRECISIONS)}"
        )
    if "auto" not in (name, precision):
        return _make(name, PRECISIONS[precision], device, threads, cache)
    asked = f"{name} {precision} on {device_name(device)} with {threads} threads"
    known = load_choice(asked, cache)
    if known in {(n, p) for n in NAMES for p in PRECISIONS}:
        return _make(known[0], PRECISIONS[known[1]], device, threads, cache)
    chosen = fastest(_candidates(name, precision, device, threads, cache), device)
    save_choice(asked, (chosen.name, str(chosen.dtype).removeprefix("torch.")), cache)
    return chosen


def _candidates(name: str, precision: str, device: torch.device, threads: int, cache: Path | None) -> list[Executor]:
    """The plain ones first: each has to pay to be taken instead of those before it."""
    own = "cudagraphs" if device.type == "cuda" else "openvino"
    names = ("eager", own) if name == "auto" else (name,)
    dtypes = _worth_trying(device) if precision == "auto" else (PRECISIONS[precision],)
    found: list[Executor] = []
    missing: ExecutorUnavailable | None = None
    for dtype in dtypes:
        for one in names:
            try:
                found.append(_make(one, dtype, device, threads, cache))
            except ExecutorUnavailable as error:
                missing = error
    if missing is not None and not found:
        raise missing
    return found


def _worth_trying(device: torch.device) -> tuple[torch.dtype, ...]:
    """float32, and a half precision that the device computes in hardware; bfloat16 first: its range is float32's."""
    if computes_bfloat16(device):
        return (torch.float32, torch.bfloat16)
    return (torch.float32, torch.float16) if device.type == "cuda" else (torch.float32,)


def _make(name: str, dtype: torch.dtype, device: torch.device, threads: int, cache: Path | None) -> Executor:
    if name == "openvino":
        from lensmount_adapters.programs.openvino import OpenVino  # the libraries of the others need not be there

        return OpenVino(device, dtype, threads, cache)
    if name == "compile":
        from lensmount_adapters.programs.inductor import Inductor

        return Inductor(device, dtype, cache)
    if name == "cudagraphs":
        from lensmount_adapters.programs.cudagraphs import CudaGraphs

        return CudaGraphs(device, dtype)
    return Eager(device, dtype)
