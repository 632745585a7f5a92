"""torch.compile at its best on the merged network: what the forward figures should be held against. Takes minutes."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn

from . import goals
from .bench import Bench
from .forward import ours_ms
from .network import adapters_of, load, merged_network


def measure(bench: Bench) -> None:
    """A dry run calls the network without compiling it: compiling takes longer than everything else together."""
    for images, network in ((n, one) for n in (16, 256, 1) for one in bench.networks):
        if images > 1 and bench.dry:
            continue
        if not bench.has_time(50, f"{network.name}, batch {images}"):
            continue
        backbone = load(network, bench.device)
        (adapter,) = adapters_of(backbone, network, 1)
        whole = merged_network(backbone, adapter).to(torch.bfloat16).to(memory_format=torch.channels_last)
        x = torch.randn(images, 3, *backbone.preprocessing.size, device=bench.device)
        ms, compiled_s = compiled_ms(bench, whole, x)
        ours = ours_ms(bench, backbone, adapter, [x])
        where = f"{network.name}, batch {images}"
        bench.row(f"{where}: torch.compile max-autotune", 1e3 * images / ms, "images/s")
        bench.row(f"{where}: seconds to compile", compiled_s, "s")
        bench.row(f"{where}: ours, hot / max-autotune", ms / ours, "times", goals.TO_PEER)
        if bench.has_time(60, f"{where}, executor autotune"):
            tuned = ours_ms(bench, backbone, adapter, [x], "autotune")
            bench.row(f"{where}: ours, executor autotune / max-autotune", ms / tuned, "times", goals.TO_PEER)


def compiled_ms(bench: Bench, whole: nn.Module, x: torch.Tensor) -> tuple[float, float]:
    """Milliseconds of a pass, and the seconds until the first one was back."""
    started = time.monotonic()
    with torch.inference_mode():
        compiled: Callable[..., object] = whole
        if not bench.dry:
            torch.compiler.reset()
            compiled = torch.compile(whole, mode="max-autotune")

        def run() -> object:
            return compiled(x.to(torch.bfloat16, memory_format=torch.channels_last))

        run()
        bench.clock.wait()
        compiled_s = time.monotonic() - started
        return bench.clock.device_ms(run, warm_up=8), compiled_s
