"""An offer runs one program for several shares of a batch and gives each share its features."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor

from lensmount_adapters.programs.executor import Program
from lensmount_adapters.runners.batch import Batch, Share
from lensmount_adapters.runners.shortcut import Offer


class Double:
    """A program that doubles its input and adds the others."""

    nbytes = 0

    def __init__(self) -> None:
        self.inputs: list[Tensor] = []

    def __call__(self, *inputs: Tensor) -> Tensor:
        x, *others = inputs
        self.inputs.append(x)
        return sum(others, 2 * x)


class Split:
    feature_dim = 1

    def activations(self, images: Tensor) -> Tensor:
        return images + 100


@pytest.fixture
def batch() -> Batch:
    split: Any = Split()
    return Batch(split, torch.arange(4.0)[:, None], [], programs=None)  # type: ignore[arg-type]  # no program is asked


def share(*rows: int) -> Share:
    adapter: Any = None
    return Share(adapter, None, list(rows), list(rows))


def test_the_features_are_split_by_share(batch: Batch) -> None:
    shares, program = [share(2), share(0, 3)], Double()

    first, second = Offer("key", program, shares, "fused").compute(batch)

    assert first.features.tolist() == [[204.0]]
    assert second.features.tolist() == [[200.0], [206.0]]
    assert [part.share for part in (first, second)] == shares
    assert first.mode == second.mode == "fused"
    assert len(program.inputs) == 1


def test_a_program_from_images_gets_the_images_and_the_other_inputs(batch: Batch) -> None:
    offer = Offer("key", Double(), [share(1, 2)], "whole", others=(torch.ones(2, 1),), from_images=True)

    (result,) = offer.compute(batch)

    assert result.features.tolist() == [[3.0], [5.0]]
    assert result.pooled is None


def test_the_pooled_activations_are_the_columns_after_the_features(batch: Batch) -> None:
    def program(x: Tensor) -> Tensor:
        return torch.cat([x * 2, x + 1, x + 2], 1)  # one feature, two pooled columns

    offer = Offer("key", cast(Program, program), [share(3), share(1, 2)], "whole", from_images=True, pooled=True)
    first, second = offer.compute(batch)

    assert (first.features.tolist(), second.features.tolist()) == ([[6.0]], [[2.0], [4.0]])
    assert first.pooled is not None
    assert second.pooled is not None
    assert (first.pooled.tolist(), second.pooled.tolist()) == ([[4.0, 5.0]], [[2.0, 3.0], [3.0, 4.0]])


def test_a_run_is_recorded_with_its_images_and_its_time(batch: Batch) -> None:
    recorded: list[tuple[int, float]] = []

    Offer("key", Double(), [share(1, 2, 3)], "hot", record=lambda n, s: recorded.append((n, s))).compute(batch)

    ((images, seconds),) = recorded
    assert images == 3
    assert seconds >= 0
