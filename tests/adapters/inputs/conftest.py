"""Shared by the tests of inputs: how much memory something needs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def grown_mib() -> Callable[[Callable[[], object]], float]:
    """`grown_mib(work)`: by how many MiB the peak of the process's memory rises while `work` runs. On Linux only."""
    if sys.platform != "linux":
        pytest.skip("/proc/self/clear_refs is Linux's")

    def peak() -> float:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024

    def grown(work: Callable[[], object]) -> float:
        Path("/proc/self/clear_refs").write_text("5")  # reset the peak to the memory in use now
        before = peak()
        work()
        return peak() - before

    return grown
