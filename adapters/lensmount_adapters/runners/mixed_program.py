"""The compiled mixed branch of one cut, and the factors of the adapters that it computed recently."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from lensmount_adapters.delta.kinds import Delta
from lensmount_adapters.programs.executor import Compiled, Program
from lensmount_adapters.runners.gpu.slab import Slab
from lensmount_adapters.runners.mixed import Mixed, PackedFactors
from lensmount_adapters.runners.mixed_layout import Layout

KEPT_PREPARED = 256  # adapters whose factors stay prepared; preparing those of another one takes 2 ms


@dataclass(frozen=True, slots=True)
class Mixable:
    """An adapter that a mixed batch can contain: which layers it changes, and its highest rank."""

    digest: str
    deltas: tuple[Delta, ...]
    layout: Layout
    rank: int


@dataclass(frozen=True, slots=True)
class MixedProgram:
    """`slots, factors = program.place(members)`, then `program.run(activations, rows, factors)`.

    Sample i belongs to the adapter with the slot `rows[i]`.
    """

    mixed: Mixed
    compiled: Compiled
    shape: Sequence[int]  # of the activations of an example
    prepared: OrderedDict[str, PackedFactors] = field(default_factory=OrderedDict)  # by digest, last used at the end
    lock: threading.Lock = field(default_factory=threading.Lock)  # of `prepared`
    slab: Slab | None = None  # of a program that reads its factors where they are

    def factors_of(self, member: Mixable) -> PackedFactors:
        """Safe from any thread."""
        with self.lock:
            factors = self.prepared.get(member.digest)
        if factors is None:
            factors = self.mixed.prepare(member.deltas)  # takes 2 ms, so the lock is not held
        with self.lock:
            self.prepared[member.digest] = factors
            self.prepared.move_to_end(member.digest)
            if len(self.prepared) > KEPT_PREPARED:
                self.prepared.popitem(last=False)
        return factors

    def place(self, digests: Sequence[str], prepared: Sequence[PackedFactors]) -> tuple[list[int], Sequence[Tensor]]:
        """The slot of each adapter of a batch, and the factors to run with. Only the engine's thread calls it."""
        if self.slab is not None:
            return self.slab.place(digests, prepared)
        return list(range(len(digests))), self.mixed.pack(prepared)

    def run(self, activations: Tensor, rows: Sequence[int], factors: Sequence[Tensor]) -> Tensor:
        """Features [N, feature_dim] of activations [N, ...]. `factors` are those of `place` or `mixed.pack`."""
        return self.compiled.run((activations, self.mixed.mask(rows)), factors)

    def fuse(self, members: Sequence[Mixable]) -> Program:
        """A program with the factors of these adapters as constants; its inputs are activations and a mask."""
        factors = self.mixed.pack([self.factors_of(member) for member in members])
        return self.compiled.bind(factors, [self.shape, self.mixed.mask([0]).shape])

    def forget(self, digest: str) -> None:
        """Drop the prepared factors of an adapter. Safe from any thread."""
        with self.lock:
            self.prepared.pop(digest, None)

    def has_room(self, layout: Layout, rank: int) -> bool:
        """Whether adapters of this layout and rank fit into the program."""
        return self.mixed.rank >= rank and self.mixed.layout.covers(layout)
