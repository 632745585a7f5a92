"""From decoded images on the host to the backbone's input: as the runner does it, and as uint8 in pinned memory."""

from __future__ import annotations

import torch
from torch import Tensor

from lensmount_adapters.inputs.upload import upload

from . import goals
from .bench import Bench


def measure(bench: Bench) -> None:
    count = 4 if bench.dry else 16
    images = [torch.randn(3, 224, 224) for _ in range(count)]

    def pageable() -> Tensor:
        return torch.stack(images).to(bench.device).to(torch.bfloat16, memory_format=torch.channels_last)

    def as_the_runner() -> Tensor:
        return upload(torch.stack(images), bench.device).to(torch.bfloat16, memory_format=torch.channels_last)

    bench.row(f"{count} images, float32, pageable", bench.clock.host_ms(pageable), "ms")
    bench.row(f"{count} images, float32, pinned (the runner)", bench.clock.host_ms(as_the_runner), "ms")
    pinned = bench.device.type == "cuda"  # pinning needs a CUDA driver
    staged = torch.empty(count, 3, 224, 224, dtype=torch.uint8, pin_memory=pinned)
    pixels = [torch.randint(0, 255, (3, 224, 224), dtype=torch.uint8) for _ in range(count)]
    mean = torch.tensor([124.0, 116.0, 104.0], device=bench.device, dtype=torch.bfloat16).view(1, 3, 1, 1)

    def as_bytes() -> Tensor:
        for place, image in zip(staged, pixels, strict=True):
            place.copy_(image)
        x = staged.to(bench.device, non_blocking=True).to(torch.bfloat16, memory_format=torch.channels_last)
        return (x - mean) / 58.0

    what = f"{count} images, uint8, pinned, normalised on the device"
    bench.row(what, bench.clock.host_ms(as_bytes), "ms", goals.UPLOAD)
