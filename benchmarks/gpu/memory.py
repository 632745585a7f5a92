"""What a server holds on the device next to one copy of the weights, and what a batch size costs at its first use."""

from __future__ import annotations

import time

import torch

from lensmount_adapters import Adapter, Backbone
from lensmount_adapters.runners.segment_runner import SegmentRunner

from . import goals
from .bench import Bench
from .network import Question, adapters_of, load, running


def measure(bench: Bench) -> None:
    network = bench.networks[0]
    before = allocated(bench)
    backbone = load(network, bench.device)
    once = 2 * sum(parameter.numel() for parameter in backbone.module.parameters())
    adapters = adapters_of(backbone, network, 2 if bench.dry else 16)
    admitted = allocated(bench) - before
    with running(backbone, adapters, 2**30, 16) as runner:
        first_ms = first_use(bench, backbone, adapters[0], runner)
        held, hot = allocated(bench) - before, runner.nbytes()["hot"]
    bench.row(f"{network.name}: slowest first use of a batch size", max(first_ms), "ms", goals.FIRST_USE)
    bench.row(f"{network.name}: weights once in bfloat16", once / 1e6, "MB")
    bench.row(f"{network.name}: hot adapters, by runner.nbytes()", hot / 1e6, "MB")
    if bench.device.type != "cuda":
        bench.remarks.append("device memory needs a GPU")
        return
    bench.row(f"{network.name}: after loading and {len(adapters)} admissions", admitted / 1e6, "MB")
    bench.row(f"{network.name}: all but hot adapters / weights once", (held - hot) / once, "times", goals.MEMORY)
    bench.row(f"{network.name}: reserved by torch", torch.cuda.memory_reserved(bench.device) / 1e6, "MB")


def first_use(bench: Bench, backbone: Backbone, adapter: Adapter, runner: SegmentRunner) -> list[float]:
    """Milliseconds of the first batch of each size; a size that was never seen is captured on the request's path."""
    times = []
    for images in (1, 2) if bench.dry else range(1, 17):
        batch = [Question(adapter, image) for image in torch.randn(images, 3, *backbone.preprocessing.size)]
        started = time.perf_counter()
        runner.scores(batch)
        times.append(1e3 * (time.perf_counter() - started))
    return times


def allocated(bench: Bench) -> int:
    return torch.cuda.memory_allocated(bench.device) if bench.device.type == "cuda" else 0
