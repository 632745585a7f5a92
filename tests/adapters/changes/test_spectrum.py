"""Singular values and best approximations against torch's own decomposition."""

from __future__ import annotations

import pytest
import torch

from lensmount_adapters.changes.spectrum import Spectrum


@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (20, 20), (1, 9), (9, 1)], ids=str)
def test_values_and_errors_are_those_of_a_full_decomposition(shape: tuple[int, int]) -> None:
    D = torch.randn(shape, dtype=torch.float64)
    expected = torch.linalg.svdvals(D)

    spectrum = Spectrum.of(D)

    assert torch.allclose(spectrum.values, expected, rtol=1e-9)
    for rank in range(1, min(shape) + 1):
        B, A = spectrum.factors(D, rank)
        lost = expected[rank:].square().sum().sqrt()
        assert torch.allclose((D - B @ A).norm(), lost, atol=1e-7)
        assert torch.allclose(B.norm(dim=0), A.norm(dim=1))


@pytest.mark.parametrize("shape", [(40, 12), (12, 40)], ids=str)
def test_a_change_of_low_rank_has_no_more_values_than_its_rank(shape: tuple[int, int]) -> None:
    D = torch.randn(shape[0], 3).double() @ torch.randn(3, shape[1]).double()

    spectrum = Spectrum.of(D)

    assert len(spectrum.values) == 3
    B, A = spectrum.factors(D, 3)
    assert torch.allclose(B @ A, D, atol=1e-12)


def test_the_rank_for_a_share_of_the_change_is_the_smallest_that_keeps_it() -> None:
    D = torch.diag(torch.tensor([3.0, 2.0, 1.0, 1.0]).double())  # squares 9, 4, 1, 1 of 15
    spectrum = Spectrum.of(D)

    assert [spectrum.rank_for(share) for share in (0.1, 0.6, 0.61, 13 / 15, 0.9, 0.99, 1.0)] == [1, 1, 2, 2, 3, 4, 4]
