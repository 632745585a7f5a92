"""Sums, TIES and DARE of single tensors against PEFT's functions, and by hand."""

from __future__ import annotations

import pytest
import torch
from peft.utils import merge_utils as peft

from lensmount_adapters.compose.merging import Dare, Linear, Ties, merged_change
from lensmount_adapters.errors import TrainingError

SHAPES = [(7, 5), (4, 3, 3, 3), (11,)]


def drawn(shape: tuple[int, ...], count: int = 3) -> torch.Tensor:
    return torch.randn(count, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape)))


WEIGHTS = torch.tensor([0.7, 0.3, 1.2], dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_sum_is_peft_s_task_arithmetic(shape: tuple[int, ...]) -> None:
    changes = drawn(shape)

    expected = peft.task_arithmetic(list(changes), WEIGHTS)

    assert torch.allclose(Linear().merge("w", changes, WEIGHTS), expected, rtol=1e-12)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("density", [0.1, 0.2, 0.5, 0.99])
def test_ties_is_peft_s(shape: tuple[int, ...], density: float) -> None:
    changes = drawn(shape)

    expected = peft.ties(list(changes), WEIGHTS, density)

    assert torch.allclose(Ties(density).merge("w", changes, WEIGHTS), expected, rtol=1e-12)


def test_ties_by_hand() -> None:
    changes = torch.tensor([[4.0, -1.0, 3.0, 0.1], [2.0, 2.0, -5.0, 0.2]]).double()
    weights = torch.tensor([1.0, 0.5]).double()

    # kept: [4, 0, 3, 0] and [0, 2, -5, 0]; signs of the sums: +, +, -; means: 4, 2 / 2, -5 / 2
    assert Ties(0.5).merge("w", changes, weights).tolist() == [4.0, 1.0, -2.5, 0.0]


def test_a_negative_weight_in_ties_turns_a_change_around_before_the_signs_are_elected() -> None:
    changes = drawn((6, 4), 2)
    turned = torch.stack([changes[0], -changes[1]])

    found = Ties(0.5).merge("w", changes, torch.tensor([1.0, -0.5]).double())

    assert torch.equal(found, Ties(0.5).merge("w", turned, torch.tensor([1.0, 0.5]).double()))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_dare_is_peft_s_with_the_same_draws(shape: tuple[int, ...], density: float) -> None:
    changes, dare = drawn(shape), Dare(density, seed=5)
    before = torch.get_rng_state()
    try:
        torch.set_rng_state(dare.generator("layer").get_state())
        expected = peft.dare_linear(list(changes), WEIGHTS, density)
    finally:
        torch.set_rng_state(before)

    assert torch.allclose(dare.merge("layer", changes, WEIGHTS), expected, rtol=1e-12)


def test_dare_gives_the_same_file_for_the_same_seed_and_keeps_the_sum_on_average() -> None:
    changes = torch.ones(2, 100_000).double()
    weights = torch.tensor([0.7, 0.3]).double()

    found = Dare(0.2, seed=1).merge("w", changes, weights)

    assert torch.equal(found, Dare(0.2, seed=1).merge("w", changes, weights))
    assert not torch.equal(found, Dare(0.2, seed=2).merge("w", changes, weights))
    assert not torch.equal(found, Dare(0.2, seed=1).merge("v", changes, weights))
    assert float(found.mean()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("merging", [Ties(0.2), Dare(0.2)], ids=["ties", "dare"])
@pytest.mark.parametrize("name", ["bn1.running_mean", "bn1.running_var"])
def test_statistics_are_added_whatever_the_method(merging: Ties | Dare, name: str) -> None:
    changes = drawn((9,))

    assert torch.equal(merged_change(merging, name, changes, WEIGHTS), Linear().merge(name, changes, WEIGHTS))


@pytest.mark.parametrize("method", [Ties, Dare])
def test_a_density_that_keeps_everything_changes_nothing_but_the_mean(method: type) -> None:
    changes = drawn((5, 5), 1)

    assert torch.allclose(method(1.0).merge("w", changes, torch.ones(1).double()), changes[0])


@pytest.mark.parametrize("method", [Ties, Dare])
@pytest.mark.parametrize("density", [0, -0.1, 1.01, float("nan")])
def test_a_density_outside_0_to_1_is_refused(method: type, density: float) -> None:
    with pytest.raises(TrainingError, match="expected a share above 0 and at most 1"):
        method(density)
