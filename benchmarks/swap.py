"""Time of a switch from one adapter to another, compared with a plain copy of the same bytes and with PEFT.

The backbone is ResNet34 with random weights, in float32 on CPU; adapters have rank 8 on conv1 and conv2 of layer3 and
layer4. The three contenders take turns in one process, in an order that rotates, so other load on the machine affects
all three alike:

    ours   ExactSwapper.mount of the other adapter; both were admitted from the bytes of a file
    copy   Tensor.copy_ of the untouched weights into the same live tensors
    peft   unmerge_adapter, set_adapter, merge_adapter

    python benchmarks/swap.py [--rounds 60] [--threads 1] [--json swap.json]
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import timm
import torch
from shared import machine  # type: ignore[import-not-found]  # in this folder; mypy starts at the repository's root
from shared.moves import must_move_answer  # type: ignore[import-not-found]  # likewise

from lensmount_adapters import Backbone, ExactSwapper, Manifest, admit, dump_adapter, load_backbone
from lensmount_adapters.adapter.manifest import Factors, LinearHead

MODULES = r"layer[34]\.\d+\.conv[12]"
RANK = 8
WARM_UP_ROUNDS = 3
GOAL_OURS_TO_COPY = 1.3
GOAL_PEFT_TO_OURS = 10.0


@dataclass(frozen=True, slots=True)
class Spread:
    minimum: float
    median: float
    maximum: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(min(values), statistics.median(values), max(values))

    def __str__(self) -> str:
        return f"{self.minimum:8.2f} {self.median:8.2f} {self.maximum:8.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Time of a switch: ours, a plain copy, PEFT.")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=max(1, machine.cores() - 1))
    parser.add_argument("--json", type=Path, default=None, metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    backbone = load_backbone("resnet34", "random:0")
    ways = {"ours": ours(backbone), "copy": plain_copy(backbone), "peft": with_peft(backbone)}
    seconds = take_turns(ways, options.rounds)

    milliseconds = {way: Spread.of([1e3 * s for s in values]) for way, values in seconds.items()}
    ratios = {
        "ours / copy": Spread.of([a / b for a, b in zip(seconds["ours"], seconds["copy"], strict=True)]),
        "peft / ours": Spread.of([a / b for a, b in zip(seconds["peft"], seconds["ours"], strict=True)]),
    }
    about = machine.describe()
    print(about)
    print(f"{weights(backbone) / 1e6:.1f} M weights adapted, rank {RANK}, {options.rounds} rounds")
    print(f"{'':12}{'min':>9}{'median':>9}{'max':>9}")
    for label, spread in {**{f"{way}, ms": s for way, s in milliseconds.items()}, **ratios}.items():
        print(f"{label:12} {spread}")
    reached = ratios["ours / copy"].median <= GOAL_OURS_TO_COPY and ratios["peft / ours"].median >= GOAL_PEFT_TO_OURS
    print(
        f"goal: ours at most {GOAL_OURS_TO_COPY} times the copy, PEFT at least {GOAL_PEFT_TO_OURS:g} times ours: "
        f"{'reached' if reached else 'missed'}"
    )
    if options.json:
        options.json.write_text(json.dumps(_document(about, options.rounds, milliseconds, ratios), indent=2) + "\n")


def ours(backbone: Backbone) -> Callable[[int], None]:
    adapters = [must_move_answer(backbone, admit(adapter_bytes(backbone, seed), backbone)) for seed in (1, 2)]
    swapper = ExactSwapper(backbone)

    def switch(turn: int) -> None:
        swapper.mount(adapters[turn % 2])

    return switch


def plain_copy(backbone: Backbone) -> Callable[[int], None]:
    names = touched(backbone)
    pairs = [(backbone.tensors[name], backbone.base([name])[name].clone()) for name in names]

    def copy(_turn: int) -> None:
        for live, pristine in pairs:
            live.copy_(pristine)

    return copy


def with_peft(backbone: Backbone) -> Callable[[int], None]:
    model: Any = timm.create_model("resnet34", pretrained=False, num_classes=0).eval()
    config = peft.LoraConfig(
        r=RANK,
        lora_alpha=RANK,
        target_modules=[modules_of(name) for name in touched(backbone)],
        init_lora_weights=False,
    )
    wrapped: Any = peft.get_peft_model(model, config, adapter_name="1")
    wrapped.add_adapter("0", config)
    wrapped.eval()
    wrapped.base_model.merge_adapter()

    def switch(turn: int) -> None:
        wrapped.base_model.unmerge_adapter()
        wrapped.set_adapter(str(turn % 2))
        wrapped.base_model.merge_adapter()

    return switch


def take_turns(ways: dict[str, Callable[[int], None]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contender in each round. Their order rotates from round to round."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    names = list(ways)
    for turn in range(WARM_UP_ROUNDS + rounds):
        first = turn % len(names)
        for way in names[first:] + names[:first]:
            start = time.perf_counter()
            ways[way](turn)
            elapsed = time.perf_counter() - start
            if turn >= WARM_UP_ROUNDS:
                seconds[way].append(elapsed)
    return seconds


def adapter_bytes(backbone: Backbone, seed: int) -> bytes:
    """The bytes of a float32 adapter file with random factors on every adapted module and a head of two classes."""
    draw = torch.Generator().manual_seed(seed)
    names = touched(backbone)
    tensors = {"head.weight": torch.randn(2, backbone.feature_dim, generator=draw), "head.bias": torch.zeros(2)}
    for name in names:
        out, inputs, height, width = backbone.targets[name].shape
        tensors[f"{modules_of(name)}.lora_A.weight"] = 0.01 * torch.randn(RANK, inputs, height, width, generator=draw)
        tensors[f"{modules_of(name)}.lora_B.weight"] = 0.01 * torch.randn(out, RANK, 1, 1, generator=draw)
    manifest = Manifest(
        name=f"adapter-{seed}",
        method="lora",
        backbone=backbone.ref,
        preprocessing=backbone.preprocessing,
        labels=("no", "yes"),
        head=LinearHead(),
        modules={modules_of(name): Factors(rank=RANK, alpha=RANK) for name in names},
    )
    return dump_adapter(manifest, tensors, torch.float32)


def touched(backbone: Backbone) -> list[str]:
    return [name for name in backbone.targets if re.fullmatch(MODULES + r"\.weight", name)]


def modules_of(name: str) -> str:
    return name.removesuffix(".weight")


def weights(backbone: Backbone) -> int:
    return sum(backbone.tensors[name].numel() for name in touched(backbone))


def _document(about: str, rounds: int, milliseconds: dict[str, Spread], ratios: dict[str, Spread]) -> dict[str, object]:
    def plain(spreads: dict[str, Spread]) -> dict[str, dict[str, float]]:
        return {name: {"min": s.minimum, "median": s.median, "max": s.maximum} for name, s in spreads.items()}

    return {"machine": about, "rounds": rounds, "milliseconds": plain(milliseconds), "ratios": plain(ratios)}


if __name__ == "__main__":
    main()
