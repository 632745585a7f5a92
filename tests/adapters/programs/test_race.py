"""The race: a later executor wins only if it is clearly faster and its results agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from lensmount_adapters.programs.race import fastest


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Timed:
    """An executor whose programs take `seconds` on the clock and are off by `error`."""

    clock: Clock
    seconds: float
    dtype: torch.dtype = torch.float32
    error: float = 0.0
    name: str = "timed"
    nbytes: int = 0

    def compile(self, module: Any, inputs: Any, weights: Any, key: str) -> Timed:
        return self

    def bind(self, weights: Any, shapes: Any = ()) -> Timed:
        return self

    def run(self, inputs: Any, weights: Any) -> Tensor:
        return self(*inputs)

    def __call__(self, *inputs: Tensor) -> Tensor:
        self.clock.now += self.seconds
        return torch.tensor([1.0, 0.5 + self.error])


@pytest.mark.parametrize(
    ("seconds", "errors", "winner"),
    [
        ((1.0, 0.9, 0.85), (0, 0, 0), 0),  # neither is 1.2 times as fast
        ((1.0, 0.8, 0.7), (0, 0, 0), 1),  # the last is not 1.2 times as fast as the one before
        ((1.0, 0.9, 0.8), (0, 0, 0), 2),
        ((1.0, 0.5, 0.1), (0, 0.002, 0.04), 2),  # float32 off by 2e-3 is wrong, bfloat16 off by 4e-2 is not
        ((1.0, 0.5, 0.1), (0, 0, 0.06), 1),
        ((1.0, 0.5, 0.1), (0, 0, float("nan")), 1),
    ],
)
def test_the_winner_is_clearly_faster_and_agrees(
    seconds: tuple[float, ...], errors: tuple[float, ...], winner: int
) -> None:
    clock = Clock()
    dtypes = (torch.float32, torch.float32, torch.bfloat16)
    candidates = [Timed(clock, *values) for values in zip(seconds, dtypes, errors, strict=True)]
    assert fastest(candidates, torch.device("cpu"), clock) is candidates[winner]
