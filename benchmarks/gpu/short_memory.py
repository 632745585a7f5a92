"""Too little memory for a batch: every image is answered, in halves, and later batches run at the size that fits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lensmount_service.engine.engine import Engine
from lensmount_service.metrics import Metrics

from . import goals
from .bench import Bench
from .network import adapters_of, load, running


def measure(bench: Bench) -> None:
    network, images = bench.networks[0], 8 if bench.dry else 1024
    backbone = load(network, bench.device)
    (adapter,) = adapters_of(backbone, network, 1)
    image = torch.randn(3, *backbone.preprocessing.size)
    with running(backbone, [adapter], 2**30, 16) as runner, little_memory(bench):
        engine = Engine(backbone, runner, Metrics("bench", backbone.name, backbone.fingerprint), images, images)
        with engine:
            for turn in ("first", "second"):
                started = time.perf_counter()
                futures = engine.submit_many([(adapter, image)] * images)
                answered = sum(future.exception() is None for future in futures)
                rate = images / (time.perf_counter() - started)
                bench.row(f"{turn} batch of {images}: images without an answer", images - answered, "", goals.LOST)
                bench.row(f"{turn} batch of {images}: images/s", rate, "images/s")


@contextmanager
def little_memory(bench: Bench) -> Iterator[None]:
    """Let torch take 1.5 GB more than it has, too little for the activations of 1,024 images at once."""
    if bench.device.type != "cuda":
        yield
        return
    _, total = torch.cuda.mem_get_info(bench.device)
    share = min(1.0, (torch.cuda.memory_reserved(bench.device) + 1.5e9) / total)
    torch.cuda.set_per_process_memory_fraction(share, bench.device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, bench.device)
