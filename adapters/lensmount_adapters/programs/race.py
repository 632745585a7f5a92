"""Which executor to take: a race on a small network on this very machine, remembered beside the programs."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from lensmount_adapters.atomic import write_atomic

if TYPE_CHECKING:
    from lensmount_adapters.programs.executor import Executor, Program

MIN_GAIN = 1.2  # what a less plain executor, or less precision, must pay to be taken
BOUNDS = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}  # error beside the largest output
VERSION = 1  # of the race; a new one measures anew


def fastest(
    candidates: Sequence[Executor], device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> Executor:
    """The first candidate, or a later one that is at least 1.2 times as fast as what was best before it.

    One whose answers differ from the first one's by more than its precision allows is left out.
    """
    if len(candidates) == 1:
        return candidates[0]
    module, images, weights = _network(device)
    programs = [one.compile(module, (images,), weights, f"probe-{VERSION}").bind(weights) for one in candidates]
    expected = programs[0](images).float().cpu()
    seconds = _seconds(programs, images, clock)
    best, shortest = candidates[0], seconds[0]
    for one, program, took in zip(candidates, programs, seconds, strict=True):
        error = (program(images).float().cpu() - expected).abs().max() / expected.abs().max()
        if took * MIN_GAIN <= shortest and error <= BOUNDS[one.dtype]:
            best, shortest = one, took
    return best


def load_choice(asked: str, cache: Path | None) -> tuple[str, str] | None:
    """Name and precision that won when the same was asked on this machine with the same libraries."""
    try:
        found = json.loads(_file(asked, cache).read_bytes()) if cache else {}
        return str(found["executor"]), str(found["precision"])
    except (OSError, ValueError, KeyError, TypeError):  # nothing is remembered, or nothing that can be read
        return None


def save_choice(asked: str, won: tuple[str, str], cache: Path | None) -> None:
    if cache is not None:
        cache.mkdir(parents=True, exist_ok=True)
        document = {"asked": asked, "executor": won[0], "precision": won[1]}
        write_atomic(_file(asked, cache), json.dumps(document).encode())


def _file(asked: str, cache: Path) -> Path:
    libraries = f"{VERSION} {torch.__version__} {_version('openvino')}"
    return cache / f"executor-{hashlib.sha256(f'{asked} {libraries}'.encode()).hexdigest()[:16]}.json"


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _network(device: torch.device) -> tuple[fx.GraphModule, Tensor, tuple[Tensor, ...]]:
    """What backbones are made of: an inverted bottleneck, a 3x3 convolution, a linear layer; images [8, 40, 28, 28]."""

    def forward(x: Tensor, wide: Tensor, depthwise: Tensor, narrow: Tensor, full: Tensor, linear: Tensor) -> Tensor:
        y = F.relu6(F.conv2d(x, wide))  # [N, 240, 28, 28]
        y = F.relu6(F.conv2d(y, depthwise, padding=1, groups=240))
        y = x + F.conv2d(y, narrow)  # [N, 40, 28, 28]
        y = F.relu(F.conv2d(y, full, padding=1))
        return F.linear(y.mean((2, 3)), linear)  # [N, 16]

    draw = torch.Generator().manual_seed(0)
    shapes = ((240, 40, 1, 1), (240, 1, 3, 3), (40, 240, 1, 1), (40, 40, 3, 3), (16, 40))
    weights = [torch.randn(shape, generator=draw) / torch.Size(shape[1:]).numel() ** 0.5 for shape in shapes]
    images = torch.randn(8, 40, 28, 28, generator=draw)
    return fx.symbolic_trace(forward), images.to(device), tuple(weight.to(device) for weight in weights)


def _seconds(programs: Sequence[Program], images: Tensor, clock: Callable[[], float], rounds: int = 30) -> list[float]:
    """The shortest run of each, taken in turn; of many, for the winner is remembered and the machine may be busy."""
    shortest = [float("inf")] * len(programs)
    for turn in range(rounds + 2):
        for index, program in enumerate(programs):
            started = clock()
            program(images)
            if images.is_cuda:
                torch.cuda.synchronize(images.device)
            if turn >= 2:  # the first ones pay for allocations and kernels
                shortest[index] = min(shortest[index], clock() - started)
    return shortest
