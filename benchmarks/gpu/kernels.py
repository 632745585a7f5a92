"""The kernels of our own next to the same functions in torch: all weights of a switch, and one mixed layer."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from lensmount_adapters.kernels.product import Product, merge_each
from lensmount_adapters.runners.gpu.mixed_triton import ops_for
from lensmount_adapters.runners.mixed_ops import TORCH

from . import goals
from .bench import Bench

LAYERS = [(256, 2304)] * 11 + [(512, 4608)] * 5  # about the convolutions of ResNet34 that the adapters change
SLOTS, RANK = 64, 8


def measure(bench: Bench) -> None:
    merge(bench, [(16, 72)] if bench.dry else LAYERS)
    images, channels, side = (2, 16, 4) if bench.dry else (16, 256, 14)
    mixed(bench, images, channels, side)


def merge(bench: Bench, layers: list[tuple[int, int]]) -> None:
    draw = torch.Generator(bench.device).manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw, device=bench.device)

    products = [Product(drawn(out, columns), drawn(out, RANK), drawn(RANK, columns)) for out, columns in layers]
    lives = [torch.empty_like(each.base, dtype=torch.bfloat16) for each in products]
    ways: dict[str, Callable[[], object]] = {"torch, layer by layer": lambda: merge_each(products, lives)}
    if bench.device.type == "cuda":
        from lensmount_adapters.kernels.grouped_merge import GroupedMerge

        ways["Triton, one launch"] = GroupedMerge(products, lives)
    megabytes = sum(6 * math.prod(layer) for layer in layers) / 1e6
    for way, work in ways.items():
        us = 1e3 * bench.clock.device_ms(work)
        bench.row(f"merge of {megabytes:.0f} MB read and written: {way}", us, "us", goals.MERGE)


def mixed(bench: Bench, images: int, channels: int, side: int) -> None:
    draw = torch.Generator(bench.device).manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw, device=bench.device).to(torch.bfloat16)

    last = torch.channels_last
    x, y = (drawn(images, channels, side, side).contiguous(memory_format=last) for _ in range(2))
    A, B = drawn(SLOTS * RANK, channels, 3, 3), drawn(SLOTS, channels, RANK, 1, 1)
    rows = torch.arange(images, device=bench.device)
    arguments = (y, x, A, B, rows, SLOTS, "Conv2d", {"padding": (1, 1)})
    found = {}
    for name, ops in {"torch": TORCH, "Triton": ops_for(bench.device)}.items():
        if name == "torch" or bench.device.type == "cuda":
            found[name] = ops.convolution(*arguments)
            us = 1e3 * bench.clock.device_ms(lambda ops=ops: ops.convolution(*arguments))  # type: ignore[misc]  # mypy cannot infer a lambda with defaults
            bench.row(f"low-rank term of {images} adapters in one layer: {name}", us, "us")
    if len(found) == 2:
        error = (found["Triton"].float() - found["torch"].float()).abs().max() / found["torch"].float().abs().max()
        bench.row("low-rank term: Triton differs from torch by", float(error), "", goals.KERNEL_ERROR)
