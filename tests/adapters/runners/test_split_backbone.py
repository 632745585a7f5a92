"""What each way of computing a branch costs is corrected while serving, but by one odd measurement only a little."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lensmount_adapters import Adapter, Backbone
from lensmount_adapters.runners.costs import LinearCost
from lensmount_adapters.runners.segment_runner import SegmentRunner
from lensmount_adapters.runners.split_backbone import SplitBackbone


@pytest.fixture
def split(
    backbone: Backbone,
    adapters: list[Adapter],
    executor_of: Callable[..., Any],
    given_costs: Callable[..., Any],
) -> Iterator[SplitBackbone]:
    """A hot image costs 2 ms."""
    runner = SegmentRunner(backbone, executor_of(), book=given_costs(hot=LinearCost(0.001, 0.001)))
    runner.prepare(adapters[0])
    (split,) = runner.splits
    yield split
    runner.close()


def test_costs_move_towards_what_batches_took(split: SplitBackbone) -> None:
    for _ in range(100):
        split.learn("hot", 1, 0.005)
    assert split.costs.hot(1) == pytest.approx(0.005, rel=1e-3)
    for _ in range(100):
        split.learn("hot", 1, 0.0)
    assert split.costs.hot(1) < 1e-6


def test_one_slow_run_hardly_moves_a_cost_and_an_adapter_alone_only_one_that_is_far_too_high(
    split: SplitBackbone,
) -> None:
    split.learn("hot", 1, 5.0)
    assert split.costs.hot(1) == pytest.approx(0.0022)
    split.learn("hot", 1, 0.0015, alone=True)
    assert split.costs.hot(1) == pytest.approx(0.0022)
    split.learn("hot", 1, 0.0005, alone=True)
    assert split.costs.hot(1) < 0.0021
