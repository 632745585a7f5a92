"""The factors of many adapters, kept where the graph of the mixed branch reads them: a batch brings only its rows.

Each adapter has a slot of every table, in the precision and layout of the program, until the slot is needed for another
one. A batch whose adapters have slots launches nothing but its graph; a new adapter costs one copy.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from lensmount_adapters.programs.executor import InPlace
from lensmount_adapters.runners.mixed import Mixed, PackedFactors

SLOTS = 64  # adapters; 64 of rank 8 on the last two stages of a ResNet34 take 30 MB in bfloat16


class Slab:
    """`Slab(mixed, compiled).place(digests, prepared)`. Only the engine's thread uses it."""

    def __init__(self, mixed: Mixed, compiled: InPlace) -> None:
        self._mixed = mixed
        self.slots = mixed.slots
        self._buffers = compiled.buffers
        self._slots: OrderedDict[str, int] = OrderedDict()  # by digest, the one used last at the end

    def place(self, digests: Sequence[str], prepared: Sequence[PackedFactors]) -> tuple[list[int], Sequence[Tensor]]:
        """The slot of each adapter, at most as many as there are slots, and the tables to run with."""
        for digest in digests:
            if digest in self._slots:
                self._slots.move_to_end(digest)
        for digest, factors in zip(digests, prepared, strict=True):
            if digest not in self._slots:
                self._write(self._free_slot(), digest, factors)
        return [self._slots[digest] for digest in digests], self._buffers

    def _free_slot(self) -> int:
        """One that is free, or that of the adapter used longest ago, which is not of this batch."""
        if len(self._slots) < self.slots:
            return next(slot for slot in range(self.slots) if slot not in self._slots.values())
        return self._slots.popitem(last=False)[1]

    def _write(self, slot: int, digest: str, factors: PackedFactors) -> None:
        with torch.inference_mode():
            torch._foreach_copy_(self._mixed.slot_of(self._buffers, slot), list(factors.factors))
        self._slots[digest] = slot
