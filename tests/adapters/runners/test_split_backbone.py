"""What each way of computing a branch costs is corrected while serving, but by one odd measurement only a little."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

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


def test_two_mixed_batches_of_one_form_have_the_answers_of_their_own_adapters(
    backbone: Backbone, same_cut: list[Adapter], executor_of: Callable[..., Any]
) -> None:
    runner = SegmentRunner(backbone, executor_of(), max_batch=4)
    for adapter in same_cut[:4]:
        runner.prepare(adapter)
    runner.settle()
    (split,) = runner.splits
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).expand(2, -1, -1, -1)
    activations = split.activations(images)

    for pair in (same_cut[:2], same_cut[2:4]):
        members = [(member, 1) for adapter in pair if (member := split.mixable(adapter)) is not None]
        found = split.mixed(activations, members)
        alone = [split.run(activations[:1]) for adapter in pair if split.mount(adapter)]
        assert (alone[0] - alone[1]).abs().max() > 1e-2
        torch.testing.assert_close(found, torch.cat(alone), rtol=1e-3, atol=1e-3)
    runner.close()
