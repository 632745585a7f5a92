"""What every check is given: the device, a clock, the table to write to, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from .clock import Clock
from .goals import NONE, Goal
from .network import NETWORKS, TINY, Network
from .table import Table


@dataclass(slots=True)
class Bench:
    """`bench.row("batch 1", 0.3, "ms", goals.CALL_OF_ONE)` writes a figure of the check that runs now."""

    table: Table
    clock: Clock
    ends_at: float  # on time.monotonic's clock
    check: str = ""
    remarks: list[str] = field(default_factory=list)

    @property
    def device(self) -> torch.device:
        return self.clock.device

    @property
    def dry(self) -> bool:
        return self.clock.dry

    @property
    def networks(self) -> tuple[Network, ...]:
        return (TINY,) if self.dry else NETWORKS

    def left_s(self) -> float:
        return self.ends_at - time.monotonic()

    def has_time(self, seconds: float, what: str) -> bool:
        """False where the budget does not cover `what`; the table then says that it is missing."""
        if self.left_s() >= seconds:
            return True
        self.remarks.append(f"no time was left for {what}")
        return False

    def row(self, figure: str, value: float, unit: str = "", goal: Goal = NONE) -> None:
        self.table.row(self.check, figure, value, unit, goal)


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the list of checks: its name, the least seconds it is worth starting with, and its function."""

    name: str
    needs_s: float
    measure: Callable[[Bench], None]
