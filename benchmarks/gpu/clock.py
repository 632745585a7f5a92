"""Median times of work on a device: on the device itself, for the caller, and until the call returns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Clock:
    """`Clock(torch.device("cuda")).device_ms(work)`. `dry` takes two repeats, by the host's clock."""

    device: torch.device
    dry: bool = False

    def wait(self) -> None:
        """Return once the device has nothing left to do."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def device_ms(self, work: Callable[[], object], repeats: int = 40, warm_up: int = 5) -> float:
        """Milliseconds that the device takes, by CUDA events."""
        if self.device.type != "cuda":
            return self.host_ms(work, repeats, warm_up)
        for _ in range(warm_up):
            work()
        times = []
        for _ in range(repeats):
            before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]  # torch's
            before.record()
            work()
            after.record()
            after.synchronize()
            times.append(float(before.elapsed_time(after)))
        return statistics.median(times)

    def host_ms(self, work: Callable[[], object], repeats: int = 40, warm_up: int = 5) -> float:
        """Milliseconds that the caller waits for the result; the device is idle before each repeat."""
        for _ in range(1 if self.dry else warm_up):
            work()
        times = []
        for _ in range(2 if self.dry else repeats):
            self.wait()
            started = time.perf_counter()
            work()
            self.wait()
            times.append(1e3 * (time.perf_counter() - started))
        return statistics.median(times)

    def enqueue_ms(self, work: Callable[[], object], repeats: int = 40) -> float:
        """Milliseconds until the call returns: the host's share. The device is idle before each repeat."""
        times = []
        for _ in range(2 if self.dry else repeats):
            self.wait()
            started = time.perf_counter()
            work()
            times.append(1e3 * (time.perf_counter() - started))
        self.wait()
        return statistics.median(times)
