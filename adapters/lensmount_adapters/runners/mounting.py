"""One adapter's weights in the branch that all adapters share: computed into buffers, and passed in at each run.

graph_mounting.py does it for programs that read their weights where they are.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.graph.functional import FunctionalBranch
from lensmount_adapters.programs.executor import Compiled


class Mounting(Protocol):
    """`mounting.mount(adapter)`, then `mounting.run(activations)`. Only the engine's thread calls it."""

    def mount(self, adapter: Adapter) -> None:
        """Merge the adapter; nothing of the one before it remains. A failure leaves nobody mounted."""
        ...

    def run(self, activations: Tensor) -> Tensor:
        """Features [N, feature_dim] with the adapter that is mounted."""
        ...

    def forget(self, digest: str) -> None:
        """Drop what is kept for an adapter that left memory. Safe from any thread."""
        ...


class BufferMounting:
    """Each buffer is written as `base + delta` in one pass, in float32."""

    def __init__(self, functional: FunctionalBranch, compiled: Compiled) -> None:
        self._functional = functional
        self._compiled = compiled
        self._buffers: dict[str, Tensor] = {}
        self._weights: list[Tensor] = list(functional.base)

    def mount(self, adapter: Adapter) -> None:
        merged = self._functional.merged(adapter.deltas, self._buffers)
        self._buffers |= merged
        pairs = zip(self._functional.inputs, self._functional.base, strict=True)
        self._weights = [merged.get(name, value) for name, value in pairs]

    def run(self, activations: Tensor) -> Tensor:
        return self._compiled.run((activations,), self._weights)

    def forget(self, digest: str) -> None:
        """Does nothing: the buffers are those of all adapters."""
