"""Choose an executor: the one asked for by name, or the fastest one measured on this machine."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch

from lensmount_adapters.dtypes import FLOAT32, TF32, WORDS, full_word
from lensmount_adapters.errors import ExecutorUnavailable
from lensmount_adapters.machine import computes_bfloat16, device_name
from lensmount_adapters.programs.eager import Eager
from lensmount_adapters.programs.executor import Executor
from lensmount_adapters.programs.race import fastest, load_choice, save_choice
from lensmount_adapters.programs.tensor_float import allow_tf32


class _Source(NamedTuple):
    """The class of an optional executor, and the options that it takes in addition to device and dtype."""

    module: str
    executor: str
    options: tuple[str, ...] = ()


# They are imported by name: the libraries of the others need not be installed, and a file may be deleted.
_SOURCES = {
    "openvino": _Source("lensmount_adapters.programs.openvino", "OpenVino", ("threads", "cache")),
    "onnxruntime": _Source("lensmount_adapters.programs.onnxruntime", "OnnxRuntime", ("threads",)),
    "compile": _Source("lensmount_adapters.programs.inductor", "Inductor", ("cache",)),
    "cudagraphs": _Source("lensmount_adapters.programs.cudagraphs", "CudaGraphs", ("max_batch",)),
    "autotune": _Source("lensmount_adapters.programs.autotune", "Autotuned", ("max_batch", "cache")),
}

PRECISIONS: dict[str, torch.dtype] = {word: getattr(torch, word) for word in WORDS}


def executor_names() -> tuple[str, ...]:
    """The names that `choose_executor` takes: an optional executor is among them if its file exists."""
    return ("auto", "eager", *(name for name, source in _SOURCES.items() if find_spec(source.module)))


def choose_executor(
    name: str, precision: str, device: str | torch.device, threads: int, cache: Path | None, max_batch: int = 16
) -> Executor:
    """An executor by its name and precision. "auto" takes the fastest installed one, measured on this machine.

    `threads` is for OpenVINO and ONNX Runtime; torch has a setting of its own. `cache` is the folder for compiled
    programs and for the measured choice. `max_batch` is for executors that prepare each batch size. Raises
    ExecutorUnavailable, with a fix, if the executor or the precision is not available.
    """
    device = torch.device(device)
    precision = on_device(precision, device)
    names = executor_names()
    if name not in names or precision not in ("auto", *PRECISIONS):
        raise ExecutorUnavailable(
            f"found executor {name!r} with precision {precision!r}, expected one of {', '.join(names)} "
            f"with auto, {', '.join(PRECISIONS)} or {TF32}"
        )
    if "auto" not in (name, precision):
        return _make(name, PRECISIONS[precision], device, threads, cache, max_batch)
    question = _question(name, precision, device, threads)
    choice = load_choice(question, cache)
    if choice in {(n, p) for n in names for p in PRECISIONS}:
        return _make(choice[0], PRECISIONS[choice[1]], device, threads, cache, max_batch)
    winner = fastest(_candidates(name, precision, device, threads, cache, max_batch), device)
    save_choice(question, (winner.name, str(winner.dtype).removeprefix("torch.")), cache)
    return winner


def on_device(precision: str, device: torch.device) -> str:
    """The format in which this precision is computed, or "auto". Sets for a CUDA device whether TF32 is allowed.

    Raises ExecutorUnavailable for `tf32` without one.
    """
    if device.type == "cuda":
        allow_tf32(precision == TF32)
    elif precision == TF32:
        raise ExecutorUnavailable(
            f"found precision {TF32} on the device {device}, expected it on a CUDA GPU. Fix: the precision {FLOAT32}"
        )
    return FLOAT32 if precision == TF32 else full_word(precision)


def explain_choice(
    name: str, precision: str, device: str | torch.device, threads: int, cache: Path | None
) -> tuple[str, str]:
    """What `choose_executor` takes or would measure, such as "openvino bfloat16", and why. Measures nothing.

    Raises ExecutorUnavailable as `choose_executor` does.
    """
    device, asked = torch.device(device), precision
    precision = on_device(precision, device)
    if "auto" not in (name, precision):
        return f"{name} {asked}", "asked for"
    choice = load_choice(_question(name, precision, device, threads), cache)
    if choice is not None:
        return " ".join(choice), "the fastest one when it was measured on this machine"
    candidates = _candidates(name, precision, device, threads, None)
    words = [f"{found.name} {str(found.dtype).removeprefix('torch.')}" for found in candidates]
    if len(words) == 1:
        return words[0], "nothing else is installed"
    return f"the fastest of {', '.join(words)}", "the first start measures them"


def _question(name: str, precision: str, device: torch.device, threads: int) -> str:
    """Everything that the fastest executor depends on, except for the libraries."""
    return f"{name} {precision} on {device_name(device)} with {threads} threads"


def _candidates(
    name: str, precision: str, device: torch.device, threads: int, cache: Path | None, max_batch: int = 16
) -> list[Executor]:
    """The executors to measure, simplest first: each must be clearly faster than those before it to be chosen."""
    compilers = ("cudagraphs",) if device.type == "cuda" else ("openvino", "onnxruntime")
    names = ("eager", *compilers) if name == "auto" else (name,)
    dtypes = _worth_trying(device) if precision == "auto" else (PRECISIONS[precision],)
    candidates: list[Executor] = []
    unavailable: ExecutorUnavailable | None = None
    for dtype in dtypes:
        for candidate in names:
            try:
                candidates.append(_make(candidate, dtype, device, threads, cache, max_batch))
            except ExecutorUnavailable as error:
                unavailable = error
    if unavailable is not None and not candidates:
        raise unavailable
    return candidates


def _worth_trying(device: torch.device) -> tuple[torch.dtype, ...]:
    """float32, and a half precision computed in hardware. bfloat16 is preferred: its range is float32's."""
    if computes_bfloat16(device):
        return (torch.float32, torch.bfloat16)
    return (torch.float32, torch.float16) if device.type == "cuda" else (torch.float32,)


def _make(
    name: str, dtype: torch.dtype, device: torch.device, threads: int, cache: Path | None, max_batch: int
) -> Executor:
    if name == "eager":
        return Eager(device, dtype)
    source = _SOURCES[name]
    try:
        module = import_module(source.module)
    except ModuleNotFoundError as error:
        if error.name != source.module:
            raise
        raise ExecutorUnavailable(
            f"found no executor {name} in this installation, expected it. Fix: the executor auto"
        ) from error
    options: dict[str, Any] = {"threads": threads, "cache": cache, "max_batch": max_batch}
    executor: Executor = getattr(module, source.executor)(
        device, dtype, **{key: options[key] for key in source.options}
    )
    return executor
