"""One optimiser step of LoRA on the device, and how much of it the host spends."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from lensmount_adapters.adapter.manifest import LinearHead
from lensmount_adapters.delta.targets import select_targets
from lensmount_adapters.training.trainable import TrainableAdapter

from . import goals
from .bench import Bench
from .network import RANK, load


def measure(bench: Bench) -> None:
    network = bench.networks[0]
    backbone = load(network, bench.device)
    selection = select_targets(network.name, backbone.targets, "lora", network.modules)
    adapter = TrainableAdapter(backbone, selection, rank=RANK, alpha=16.0, head=LinearHead(), classes=2, seed=0)
    optimiser = torch.optim.AdamW(list(adapter.parameters().values()), lr=1e-3)
    count = 2 if bench.dry else 32
    images = torch.randn(count, 3, *backbone.preprocessing.size, device=bench.device)
    labels = torch.randint(0, 2, (count,), device=bench.device)

    def step() -> None:
        loss = F.cross_entropy(adapter.logits(images, torch.bfloat16), labels)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
        optimiser.step()

    step_ms, host_ms = bench.clock.host_ms(step, 20), bench.clock.enqueue_ms(step, 20)
    bench.row(f"{network.name}: LoRA, {count} images per step", 1e3 * count / step_ms, "images/s")
    bench.row(f"{network.name}: the host's share of a step", host_ms / step_ms, "times", goals.HOST_SHARE)
