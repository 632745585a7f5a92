"""Find the fastest executor by a race on a small network on this machine; the result is cached with the programs."""

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

MIN_GAIN = 1.2  # a more complex executor, or a lower precision, is chosen only if it is this many times as fast
BOUNDS = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}  # error relative to the largest output
IMAGES = {"cuda": 1024}  # fewer are over before a GPU has launched them, so that no precision is faster; a CPU: 8
VERSION = 1  # of the race; with a new version the choice is measured again


def fastest(
    candidates: Sequence[Executor], device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> Executor:
    """The first candidate, or a later one that is at least 1.2 times as fast as the best one before it.

    A candidate is left out if its results differ from the first one's by more than its precision allows.
    """
    if len(candidates) == 1:
        return candidates[0]
    module, images, weights = _network(device)
    programs = [
        candidate.compile(module, (images,), weights, f"probe-{VERSION}").bind(weights) for candidate in candidates
    ]
    expected = programs[0](images).float().cpu()
    seconds = _seconds(programs, images, clock)
    best, shortest = candidates[0], seconds[0]
    for candidate, program, duration in zip(candidates, programs, seconds, strict=True):
        error = (program(images).float().cpu() - expected).abs().max() / expected.abs().max()
        if duration * MIN_GAIN <= shortest and error <= BOUNDS[candidate.dtype]:
            best, shortest = candidate, duration
    return best


def load_choice(question: str, cache: Path | None) -> tuple[str, str] | None:
    """Name and precision of the earlier winner for the same question, machine and libraries; None if there is none."""
    try:
        choice = json.loads(_file(question, cache).read_bytes()) if cache else {}
        return str(choice["executor"]), str(choice["precision"])
    except (OSError, ValueError, KeyError, TypeError):  # no choice was saved, or it cannot be read
        return None


def save_choice(question: str, winner: tuple[str, str], cache: Path | None) -> None:
    """Save the winner's name and precision, if there is a cache folder."""
    if cache is not None:
        cache.mkdir(parents=True, exist_ok=True)
        choice = {"asked": question, "executor": winner[0], "precision": winner[1]}
        write_atomic(_file(question, cache), json.dumps(choice).encode())


def _file(question: str, cache: Path) -> Path:
    libraries = " ".join((str(VERSION), torch.__version__, *map(_version, ("openvino", "onnxruntime"))))
    return cache / f"executor-{hashlib.sha256(f'{question} {libraries}'.encode()).hexdigest()[:16]}.json"


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _network(device: torch.device) -> tuple[fx.GraphModule, Tensor, tuple[Tensor, ...]]:
    """A network of typical backbone layers: an inverted bottleneck, a 3x3 convolution, a linear layer.

    Returns it with images [N, 40, 28, 28] and its weights.
    """

    def forward(x: Tensor, wide: Tensor, depthwise: Tensor, narrow: Tensor, full: Tensor, linear: Tensor) -> Tensor:
        y = F.relu6(F.conv2d(x, wide))  # [N, 240, 28, 28]
        y = F.relu6(F.conv2d(y, depthwise, padding=1, groups=240))
        y = x + F.conv2d(y, narrow)  # [N, 40, 28, 28]
        y = F.relu(F.conv2d(y, full, padding=1))
        return F.linear(y.mean((2, 3)), linear)  # [N, 16]

    draw = torch.Generator().manual_seed(0)
    shapes = ((240, 40, 1, 1), (240, 1, 3, 3), (40, 240, 1, 1), (40, 40, 3, 3), (16, 40))
    weights = [torch.randn(shape, generator=draw) / torch.Size(shape[1:]).numel() ** 0.5 for shape in shapes]
    images = torch.randn(IMAGES.get(device.type, 8), 40, 28, 28, generator=draw)
    return fx.symbolic_trace(forward), images.to(device), tuple(weight.to(device) for weight in weights)


def _seconds(programs: Sequence[Program], images: Tensor, clock: Callable[[], float], rounds: int = 30) -> list[float]:
    """Best-of-N time per program, interleaved. N is large because the choice is cached and the machine may be busy."""
    shortest = [float("inf")] * len(programs)
    for turn in range(rounds + 2):
        for index, program in enumerate(programs):
            started = clock()
            program(images)
            if images.is_cuda:
                torch.cuda.current_stream(images.device).synchronize()  # a wait for the device ends captures
            if turn >= 2:  # the first two rounds also allocate memory and load kernels
                shortest[index] = min(shortest[index], clock() - started)
    return shortest
