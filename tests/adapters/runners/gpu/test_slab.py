"""Factors stay where a graph reads them. Tested without a GPU, by a torch.cuda that records graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from tests.fake_cuda import FakeCuda

from lensmount_adapters import Adapter, Backbone
from lensmount_adapters.runners.costs import CostBook, LinearCost
from lensmount_adapters.runners.gpu.slab import SLOTS
from lensmount_adapters.runners.mixed_program import Mixable, MixedProgram
from lensmount_adapters.runners.segment_runner import SegmentRunner


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda.installed(monkeypatch)


@pytest.fixture
def mixing_runner(
    cuda: FakeCuda, backbone: Backbone, same_cut: list[Adapter], given_costs: Callable[..., CostBook]
) -> Any:
    """A runner for which mixing is always cheapest."""
    dear, free = LinearCost(100.0, 100.0), LinearCost(0.0, 0.0)
    book = given_costs(hot=dear, merged=dear, mixed=free)
    runner = SegmentRunner(backbone, cuda.executor(), max_batch=4, hot_bytes=0, book=book)
    for adapter in same_cut:
        runner.prepare(adapter)
    runner.settle()
    yield runner
    runner.close()


def test_more_adapters_than_slots_are_answered_as_in_float64(
    mixing_runner: SegmentRunner,
    same_cut: list[Adapter],
    questions: Callable[..., Any],
    check: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mixed = mixing_runner.splits[0].mixed_program
    assert mixed is not None
    assert mixed.slab is not None
    assert mixed.slab.slots == SLOTS
    mixed.slab.slots = 3  # the graph has room for more
    for first in (0, 2, 4, 1, 3):
        asked = questions([same_cut[(first + n) % 5] for n in range(3)], 4)
        outcome = mixing_runner.scores(asked)
        assert outcome.modes == {"mixed": 4}
        check(asked, outcome.scores)


def placed(program: MixedProgram, members: Sequence[Mixable]) -> list[int]:
    prepared = [program.factors_of(member) for member in members]
    return program.place([member.digest for member in members], prepared)[0]


def test_a_batch_whose_adapters_have_slots_copies_no_factors(
    cuda: FakeCuda, mixing_runner: SegmentRunner, same_cut: list[Adapter]
) -> None:
    split = mixing_runner.splits[0]
    members = [member for adapter in same_cut if (member := split.mixable(adapter)) is not None]
    program, x = split.mixed_program, split.example[:1].expand(4, *split.example.shape[1:])
    assert program is not None
    for member in members:
        program.factors_of(member)  # once for each adapter
    slots = placed(program, members[:4])
    assert placed(program, members[3::-1]) == slots[::-1]

    with torch.inference_mode(), cuda.launches() as launches:
        split.mixed(x, [(member, 1) for member in members[:4]])
    assert sum(launches.values()) <= 6  # rows, mask, two inputs, features
    assert cuda.calls["replay"] > 0

    with torch.inference_mode(), cuda.launches() as launches:
        placed(program, members[4:])
    assert launches == {"_foreach_copy_": 1}


def test_the_adapter_used_longest_ago_gives_its_slot(mixing_runner: SegmentRunner, same_cut: list[Adapter]) -> None:
    split = mixing_runner.splits[0]
    members = [member for adapter in same_cut if (member := split.mixable(adapter)) is not None]
    program = split.mixed_program
    assert program is not None
    assert program.slab is not None
    program.slab.slots = 3
    a, b, c = placed(program, members[:3])
    placed(program, [members[0], members[2]])

    assert placed(program, [members[3]]) == [b]
    assert placed(program, [members[0], members[2], members[3]]) == [a, c, b]
