"""Ranks by one number, by a share of the change, and by the bytes of the whole file."""

from __future__ import annotations

import pytest
import torch

from lensmount_adapters.changes.budget import Energy, MaxBytes, SameRank
from lensmount_adapters.changes.spectrum import Spectrum
from lensmount_adapters.errors import AdapterTooLarge, TrainingError

SPECTRA = {
    "large": Spectrum.of(torch.diag(torch.tensor([8.0, 4.0, 2.0, 1.0]).double())),
    "small": Spectrum.of(torch.diag(torch.tensor([1.0, 0.5]).double())),
}


def size_of(ranks: dict[str, int]) -> int:
    """A file with 1,000 bytes of other things, two bytes for each number, and what names take in a header."""
    return 1000 + ranks["large"] * 16 + ranks["small"] * 8 + sum(255 for rank in ranks.values() if rank)


def test_one_rank_for_all_is_at_most_the_layer_s_own() -> None:
    assert SameRank(3).ranks(SPECTRA, size_of, 2) == {"large": 3, "small": 2}


def test_a_share_of_the_change_gives_each_layer_its_own_rank() -> None:
    assert Energy(0.79).ranks(SPECTRA, size_of, 2) == {"large": 2, "small": 1}
    assert Energy(1.0).ranks(SPECTRA, size_of, 2) == {"large": 4, "small": 2}


@pytest.mark.parametrize(
    ("max_bytes", "expected"),
    [
        (1000, {"large": 0, "small": 0}),
        (1271, {"large": 1, "small": 0}),
        (1300, {"large": 2, "small": 0}),
        (1600, {"large": 4, "small": 2}),
    ],
)
def test_the_most_useful_ranks_come_first_and_the_file_stays_below_the_limit(
    max_bytes: int, expected: dict[str, int]
) -> None:
    ranks = MaxBytes(max_bytes).ranks(SPECTRA, size_of, 2)

    assert ranks == expected
    assert size_of(ranks) <= max_bytes


def test_tensors_that_take_more_bytes_than_expected_are_counted() -> None:
    assert size_of(MaxBytes(1400).ranks(SPECTRA, lambda ranks: size_of(ranks) + 100 * sum(ranks.values()), 2)) <= 1400


def test_a_limit_below_what_is_stored_exactly_is_refused_and_its_advice_works() -> None:
    with pytest.raises(AdapterTooLarge, match=r"found 1000 bytes .* Fix: --max-bytes 201000"):
        MaxBytes(999).ranks(SPECTRA, size_of, 2)

    assert MaxBytes(201000).ranks(SPECTRA, size_of, 2) == {"large": 4, "small": 2}


@pytest.mark.parametrize(
    "wrong",
    [lambda: SameRank(0), lambda: Energy(0), lambda: Energy(1.01), lambda: Energy(float("nan")), lambda: MaxBytes(0)],
)
def test_a_budget_of_nothing_is_refused(wrong: object) -> None:
    with pytest.raises(TrainingError, match=r"expected .* Fix: --"):
        wrong()  # type: ignore[operator]
