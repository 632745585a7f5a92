"""How far the weights drift from the base if adapters are removed by subtraction instead of by restoring the base.

Eight adapters take turns in random order on some convolutions of ResNet34 (random weights, rank 8, the norm of each
delta is a tenth of its weight's). After 1, 100 and 10,000 switches the adapter is removed and the weights are compared
with those at the start: once with SubtractingSwapper, which is never refreshed, and once with ExactSwapper. The script
prints the Markdown table of docs/decisions.md.

    python benchmarks/drift.py [--switches 1 100 10000] [--modules REGEX]
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from shared import machine  # type: ignore[import-not-found]  # in this folder; mypy starts at the repository's root
from shared.moves import must_move_answer  # type: ignore[import-not-found]  # likewise
from torch import Tensor

from lensmount_adapters import (
    Adapter,
    Backbone,
    ExactSwapper,
    Manifest,
    SubtractingSwapper,
    Swapper,
    admit,
    dump_adapter,
    load_backbone,
)
from lensmount_adapters.adapter.manifest import Factors, LinearHead

ADAPTERS = 8
RANK = 8
DELTA_TO_WEIGHT = 0.1
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Drift:
    """The drift of all adapted weights after the adapter was removed."""

    largest: float
    mean_weight: float
    changed: float

    def cells(self) -> str:
        if self.largest == 0:
            return "0 | 0 | 0 %"
        return f"{self.largest:.2g} | {self.largest / self.mean_weight:.2g} | {100 * self.changed:.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description="Drift of the subtracting swapper, compared with the exact one.")
    parser.add_argument("--switches", type=int, nargs="+", default=[1, 100, 10_000])
    parser.add_argument("--modules", default=r"layer2\.3\.conv[12]", metavar="REGEX")
    parser.add_argument("--threads", type=int, default=max(1, machine.cores() - 1))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    print(f"{machine.describe()}\n")
    print("| dtype | switches | swapper | largest drift | largest drift / mean weight | weights changed |")
    print("|---|---:|---|---:|---:|---:|")
    for dtype in DTYPES:
        for kind in ("subtract", "exact"):
            for switches, drift in measure(kind, dtype, options.modules, options.switches):
                name = str(dtype).removeprefix("torch.")
                print(f"| {name} | {switches:,} | {kind} | {drift.cells()} |", flush=True)


def measure(kind: str, dtype: torch.dtype, modules: str, checkpoints: Sequence[int]) -> Iterator[tuple[int, Drift]]:
    backbone = load_backbone("resnet34", "random:0", dtype=dtype)
    names = [name for name in backbone.targets if re.fullmatch(rf"(?:{modules})\.weight", name)]
    adapters = [draw(backbone, names, seed) for seed in range(ADAPTERS)]
    start = {name: backbone.tensors[name].clone() for name in names}
    swapper: Swapper = ExactSwapper(backbone)
    if kind == "subtract":
        swapper = SubtractingSwapper(backbone, refresh_after=max(checkpoints) + 1)
    turns = random_order(adapters)
    done = 0
    for checkpoint in sorted(checkpoints):
        for _ in range(checkpoint - done):
            swapper.mount(next(turns))
        done = checkpoint
        swapper.unmount()
        yield checkpoint, drift(start, backbone)


def random_order(adapters: Sequence[Adapter]) -> Iterator[Adapter]:
    """Never yields the same adapter twice in a row. A fixed cycle would repeat the same roundings and drift less."""
    rng = random.Random(0)
    current = adapters[0]
    while True:
        yield current
        current = rng.choice([adapter for adapter in adapters if adapter is not current])


def drift(start: dict[str, Tensor], backbone: Backbone) -> Drift:
    before = torch.cat([tensor.flatten() for tensor in start.values()]).double()
    after = torch.cat([backbone.tensors[name].flatten() for name in start]).double()
    distance = (after - before).abs()
    return Drift(float(distance.max()), float(before.abs().mean()), float((distance > 0).double().mean()))


def draw(backbone: Backbone, names: Sequence[str], seed: int) -> Adapter:
    """An adapter with normally distributed factors. The norm of each delta is `DELTA_TO_WEIGHT` times its weight's."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {"head.weight": torch.randn(2, backbone.feature_dim, generator=generator), "head.bias": torch.zeros(2)}
    modules = [name.removesuffix(".weight") for name in names]
    for name, module in zip(names, modules, strict=True):
        out, inputs, height, width = backbone.targets[name].shape
        A = torch.randn(RANK, inputs, height, width, generator=generator)
        B = torch.randn(out, RANK, 1, 1, generator=generator)
        B *= DELTA_TO_WEIGHT * backbone.base([name])[name].float().norm() / (B.flatten(1) @ A.flatten(1)).norm()
        tensors |= {f"{module}.lora_A.weight": A, f"{module}.lora_B.weight": B}
    manifest = Manifest(
        name=f"adapter-{seed}",
        method="lora",
        backbone=backbone.ref,
        preprocessing=backbone.preprocessing,
        labels=("no", "yes"),
        head=LinearHead(),
        modules={module: Factors(rank=RANK, alpha=RANK) for module in modules},
    )
    return must_move_answer(backbone, admit(dump_adapter(manifest, tensors, torch.float32), backbone))  # type: ignore[no-any-return]


if __name__ == "__main__":
    main()
