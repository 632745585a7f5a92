"""How long an integrity check takes in all, and for the largest tensor, for which the engine stands still."""

from __future__ import annotations

import time

import torch

from lensmount_adapters.backbone.fingerprint import resident_digest

from . import goals
from .bench import Bench
from .network import load


def measure(bench: Bench) -> None:
    backbone = load(bench.networks[0], bench.device)
    started = time.perf_counter()
    backbone.changed()
    ms = 1e3 * (time.perf_counter() - started)
    bench.row(f"{backbone.name}: Backbone.changed()", ms, "ms", goals.INTEGRITY)
    largest = max(backbone.tensors.values(), key=lambda tensor: tensor.nbytes)
    ms = bench.clock.host_ms(lambda: resident_digest(largest), 10)
    bench.row(f"{backbone.name}: the largest tensor alone", ms, "ms", goals.INTEGRITY)
    flat = torch.cat([t.reshape(-1).view(torch.int32) for t in backbone.tensors.values() if t.dtype is torch.float32])
    weights = torch.arange(1, flat.numel() + 1, device=flat.device, dtype=torch.int64)
    ms = bench.clock.device_ms(lambda: (flat * weights).sum(), 10)
    bench.row(f"{backbone.name}: weighted sum of the same bytes on the device", ms, "ms")
