"""The interface of a method: from a network, an image and a label to a grid of values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from lensmount_adapters.explain.network import AdaptedNetwork


def carry_on() -> None:
    """What a method calls if nobody can stop it."""


class Method(Protocol):
    """One way to say which parts of an image speak for a label."""

    passes: int  # of the network, forward or backward, of one image

    def values(
        self, network: AdaptedNetwork, image: Tensor, label: int, proceed: Callable[[], None] = carry_on
    ) -> Tensor:
        """Values [rows, columns], float32 on the CPU; the grid covers the input, and larger values speak for the label.

        `image` is one preprocessed image [3, height, width], `label` the label's number. `proceed` is called between
        two steps of long work; it may raise an error to stop it. Raises ExplainError if the network has no such map.
        """
        ...
