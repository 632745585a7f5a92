"""How many ranks each layer of an extracted adapter gets: one rank for all, a share of the change, or bytes in all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from lensmount_adapters.changes.spectrum import Spectrum
from lensmount_adapters.errors import AdapterTooLarge, TrainingError

Ranks = dict[str, int]
SizeOf = Callable[[Ranks], int]


class Budget(Protocol):
    """Chooses the rank of each layer; 0 leaves the layer as it is."""

    def ranks(self, spectra: Mapping[str, Spectrum], size_of: SizeOf, item_size: int) -> Ranks:
        """`size_of(ranks)` is the size of the file in bytes; `item_size` are the bytes of a stored number."""
        ...


@dataclass(frozen=True, slots=True)
class SameRank:
    """The same rank for all layers, or the layer's own if that is lower."""

    rank: int

    def __post_init__(self) -> None:
        _require(self.rank >= 1, f"--rank {self.rank}", "at least 1", "--rank 8")

    def ranks(self, spectra: Mapping[str, Spectrum], size_of: SizeOf, item_size: int) -> Ranks:
        return {name: min(self.rank, len(spectrum.values)) for name, spectrum in spectra.items()}


@dataclass(frozen=True, slots=True)
class Energy:
    """In each layer, the ranks that keep this share of the sum of squares of its change."""

    share: float

    def __post_init__(self) -> None:
        _require(0 < self.share <= 1, f"--energy {self.share:g}", "a share above 0 and at most 1", "--energy 0.99")

    def ranks(self, spectra: Mapping[str, Spectrum], size_of: SizeOf, item_size: int) -> Ranks:
        return {name: spectrum.rank_for(self.share) for name, spectrum in spectra.items()}


@dataclass(frozen=True, slots=True)
class MaxBytes:
    """The ranks that keep most of the change in a file of at most this size.

    The singular values of all layers are taken in the order of their square for each byte that they cost, so that a
    layer that changed more gets more.
    """

    max_bytes: int

    def __post_init__(self) -> None:
        _require(self.max_bytes >= 1, f"--max-bytes {self.max_bytes}", "at least 1", "--max-bytes 1000000")

    def ranks(self, spectra: Mapping[str, Spectrum], size_of: SizeOf, item_size: int) -> Ranks:
        exact = size_of(dict.fromkeys(spectra, 0))
        if exact > self.max_bytes:
            raise AdapterTooLarge(
                f"found {exact} bytes of classifier, biases, norms and tokens, expected at most "
                f"{self.max_bytes} in all. Fix: --max-bytes {exact + 200_000}"
            )
        free = self.max_bytes - exact
        ranks = _most_useful(spectra, free, item_size)
        while (over := size_of(ranks) - self.max_bytes) > 0:  # some tensors stay in float32
            free -= over
            ranks = _most_useful(spectra, free, item_size)
        return ranks


def _most_useful(spectra: Mapping[str, Spectrum], free: int, item_size: int) -> Ranks:
    ranks = dict.fromkeys(spectra, 0)
    costs = {name: sum(spectrum.shape) * item_size for name, spectrum in spectra.items()}
    offers = [(float(s) ** 2 / costs[name], name) for name, spectrum in spectra.items() for s in spectrum.values]
    for _, name in sorted(offers, reverse=True):
        cost = costs[name] + (0 if ranks[name] else _bytes_in_header(name))
        if cost <= free:
            ranks[name] += 1
            free -= cost
    return ranks


def _bytes_in_header(name: str) -> int:
    """The bytes that a layer adds to the file's header: two entries, and its rank in the manifest."""
    return 3 * len(name) + 240


def _require(fits: bool, found: str, expected: str, example: str) -> None:
    if not fits:
        raise TrainingError(f"found {found}, expected {expected}. Fix: {example}")
