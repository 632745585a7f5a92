"""A batch of 16 images for 16 adapters next to a batch of 16 images for one."""

from __future__ import annotations

import torch
from torch import Tensor

from lensmount_adapters import Adapter, Backbone

from . import goals
from .bench import Bench
from .network import Network, Question, adapters_of, load, parts_of, running, settle


def measure(bench: Bench) -> None:
    count = 4 if bench.dry else 16
    for network in bench.networks:
        if not bench.has_time(20, network.name):
            return
        backbone = load(network, bench.device)
        adapters = adapters_of(backbone, network, count)
        images = torch.randn(count, 3, *backbone.preprocessing.size)
        for hot_bytes, how in ((2**35, "hot"), (0, "cold")):
            whole_call(bench, f"{network.name}, {how}", backbone, adapters, images, hot_bytes)
        branch_alone(bench, network, backbone, adapters, images)


def whole_call(
    bench: Bench, where: str, backbone: Backbone, adapters: list[Adapter], images: Tensor, hot_bytes: int
) -> None:
    count = len(adapters)
    with running(backbone, adapters, hot_bytes, count) as runner:
        one = [Question(adapters[0], image) for image in images]
        many = [Question(adapter, image) for adapter, image in zip(adapters, images, strict=True)]
        for _ in range(1 if bench.dry else 6):
            runner.scores(many)
            settle(runner)
        alone_ms = bench.clock.host_ms(lambda: runner.scores(one), 20)
        together_ms = bench.clock.host_ms(lambda: runner.scores(many), 20)
        modes = runner.scores(many).modes
    bench.row(f"{where}: {count} images of one adapter", 1e3 * count / alone_ms, "images/s")
    how = ", ".join(f"{images} {mode}" for mode, images in modes.items())
    bench.row(f"{where}: {count} images of {count} adapters ({how})", 1e3 * count / together_ms, "images/s")
    bench.row(f"{where}: {count} adapters / one", alone_ms / together_ms, "times", goals.MANY_TO_ONE)


def branch_alone(bench: Bench, network: Network, backbone: Backbone, adapters: list[Adapter], images: Tensor) -> None:
    """Where the time of a mixed batch goes, without the trunk and the heads."""
    parts = parts_of(backbone, adapters[0], len(adapters))
    mixable = [parts.mixable(adapter) for adapter in adapters]
    members = [(one, 1) for one in mixable if one is not None]
    parts.grow()
    x = parts.activations(images)
    mixed_ms = bench.clock.host_ms(lambda: parts.mixed(x, members), 20)
    bench.row(f"{network.name}: mixed branch", mixed_ms, "ms")
    bench.row(f"{network.name}: of which packing factors, host's share", 1e3 * parts.pack_s, "ms", goals.PACK)
    one = parts.bind(adapters[0])
    bench.row(f"{network.name}: the same branch of one hot adapter", bench.clock.host_ms(lambda: one(x), 20), "ms")
