"""From any adapter to any other: cold factors merged, hot weights copied, and the exact swapper in place."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from lensmount_adapters import Adapter, Backbone, ExactSwapper
from lensmount_adapters.programs.live_graphs import live_graphs

from . import goals
from .bench import Bench
from .network import LITE0, Network, adapters_of, load, parts_of


def measure(bench: Bench) -> None:
    for network in bench.networks[:2]:
        if not bench.has_time(12, network.name):
            return
        backbone = load(network, bench.device)
        a, b = adapters_of(backbone, network, 2)
        compiled(bench, network, backbone, (a, b))
        in_place(bench, network, backbone, (a, b))


def compiled(bench: Bench, network: Network, backbone: Backbone, pair: tuple[Adapter, Adapter]) -> None:
    """A switch takes what two passes with a switch take beyond a pass without one."""
    changed = sum(math.prod(delta.target.shape) for delta in pair[0].deltas)
    source, target = (torch.randn(changed, device=bench.device, dtype=torch.bfloat16) for _ in range(2))
    copy_ms = bench.clock.device_ms(lambda: target.copy_(source))
    parts = parts_of(backbone, pair[0], 16)
    programs = [parts.bind(adapter) for adapter in pair]
    x = parts.activations(torch.randn(1, 3, *backbone.preprocessing.size))

    def cold() -> None:
        for adapter in pair:
            parts.mount(adapter)
            parts.run(x)

    def hot() -> None:
        for program in programs:
            program(x)

    same_ms = bench.clock.host_ms(lambda: programs[0](x))
    small = network is LITE0
    ways: dict[str, tuple[Callable[[], None], goals.Goal]] = {
        "cold": (cold, goals.SWITCH_COLD_SMALL if small else goals.SWITCH_COLD),
        "hot": (hot, goals.SWITCH_HOT),
    }
    for way, (work, goal) in ways.items():
        ms = bench.clock.host_ms(work) / 2 - same_ms
        bench.row(f"{network.name}, {way}: a switch, beyond the pass", 1e3 * ms, "us", goal)
        host_ms = bench.clock.enqueue_ms(work) / 2
        bench.row(f"{network.name}, {way}: the host's share, with the pass", 1e3 * host_ms, "us")
        bench.row(f"{network.name}, {way}: a switch / copy in bfloat16", ms / copy_ms, "times", goals.SWITCH_TO_COPY)


def in_place(bench: Bench, network: Network, backbone: Backbone, pair: tuple[Adapter, Adapter]) -> None:
    backbone.keep_clones()
    swapper = ExactSwapper(backbone)

    def both() -> None:
        for adapter in pair:
            swapper.mount(adapter)

    x = torch.randn(1, 3, *backbone.preprocessing.size, device=bench.device)
    graphs = live_graphs(backbone.module, x, backbone.dtype, 1) if bench.device.type == "cuda" else backbone.module
    with torch.inference_mode():
        for way, forward in {"plain torch": backbone.module, "graphs over the live weights": graphs}.items():
            ms = bench.clock.host_ms(lambda forward=forward: forward(x))  # type: ignore[misc]  # mypy cannot infer a lambda with defaults
            bench.row(f"{network.name}, executor merged: a pass of one image, {way}", ms, "ms")
    ms = bench.clock.host_ms(both) / 2
    bench.row(f"{network.name}: ExactSwapper, float32 in place", 1e3 * ms, "us", goals.SWITCH_IN_PLACE)
    swapper.unmount()
    changed = len(backbone.changed())
    bench.row(f"{network.name}: tensors that differ after unmount", changed, "", goals.CHANGED_TENSORS)
