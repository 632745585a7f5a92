"""Trunk outputs in memory: the latest ones, within a bound."""

from __future__ import annotations

import torch

from lensmount_service.archive.entry import KeptOutput
from lensmount_service.archive.memory import MemoryOutputs


def output(numbers: int = 25) -> KeptOutput:
    return KeptOutput(torch.zeros(1, numbers), None)


def test_the_ones_used_last_stay_within_the_bound() -> None:
    memory = MemoryOutputs(300)
    for key in "abc":
        memory.put(key, output())
    assert memory.get("a") is not None
    memory.put("d", output())
    assert [key for key in "abcd" if memory.get(key)] == ["a", "c", "d"]
    assert memory.nbytes == 300


def test_one_that_is_put_again_counts_once() -> None:
    memory = MemoryOutputs(300)
    for _ in range(5):
        memory.put("a", output())
    assert memory.nbytes == 100


def test_one_that_is_larger_than_the_bound_displaces_nothing() -> None:
    memory = MemoryOutputs(300)
    memory.put("a", output())
    memory.put("b", output(100))
    assert memory.get("b") is None
    assert memory.get("a") is not None
