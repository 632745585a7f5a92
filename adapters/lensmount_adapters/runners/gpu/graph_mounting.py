"""One adapter's weights, written where a CUDA graph reads them: one launch for all low-rank changes, one for the rest.

The base is kept in float32 in the order of the graph's buffers, so each number is rounded once and the bits do not
depend on what was mounted before. An adapter that is mounted costs nothing until another program uses its buffers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.graph.functional import FunctionalBranch
from lensmount_adapters.kernels.product import Product, in_memory_order, merge_each
from lensmount_adapters.programs.cast import channels_last
from lensmount_adapters.programs.executor import InPlace

KEPT = 64  # adapters whose factors stay laid out; laying out those of another one takes some 40 launches


@dataclass(frozen=True, slots=True, eq=False)
class Merging:
    """What one adapter writes: `merge` the weights with factors, and a copy the others."""

    rows: frozenset[int]
    merge: Callable[[], None]
    others: Sequence[int]
    values: Sequence[Tensor]

    def write(self, buffers: Sequence[Tensor]) -> None:
        self.merge()
        if self.others:
            torch._foreach_copy_([buffers[row] for row in self.others], list(self.values))


class GraphMounting:
    """`GraphMounting(functional, compiled)` for a compiled branch that is `InPlace`."""

    def __init__(self, functional: FunctionalBranch, compiled: InPlace) -> None:
        self._functional = functional
        self._compiled = compiled
        self._row_of = {name: row for row, name in enumerate(functional.inputs)}
        self._bases: dict[str, Tensor] = {}  # float32 [out, columns], in the order of the buffers
        self._mergings: OrderedDict[str, Merging] = OrderedDict()
        self._mounted: Merging | None = None

    def mount(self, adapter: Adapter) -> None:
        self._mounted = None
        merging = self._mergings.get(adapter.digest)
        if merging is None:
            merging = self._mergings[adapter.digest] = self._laid_out(adapter)
            if len(self._mergings) > KEPT:
                self._mergings.popitem(last=False)
        self._compiled.load(merging)
        self._mounted = merging

    def run(self, activations: Tensor) -> Tensor:
        assert self._mounted is not None  # the runner mounts before it runs
        self._compiled.load(self._mounted)  # a hot program may have used the buffers since
        return self._compiled.replay_loaded((activations,))

    def forget(self, digest: str) -> None:
        self._mergings.pop(digest, None)

    def _laid_out(self, adapter: Adapter) -> Merging:
        with torch.inference_mode():
            factored, rest = self._functional.factored(adapter.deltas)
            products = [
                Product(self._base(name), low.scale * low.B.float().flatten(1), in_memory_order(low.A.float()))
                for name, low in factored.items()
            ]
            buffers = [self._compiled.buffers[self._row_of[name]] for name in factored]
            lives = [in_memory_order(buffer) for buffer in buffers]
            if any(live.data_ptr() != buffer.data_ptr() for live, buffer in zip(lives, buffers, strict=True)):
                raise RuntimeError("found a copy of a graph's buffer, expected a view of it")  # a merge would be lost
            merged = self._functional.merged(rest)
            values = [value.to(self._compiled.buffers[self._row_of[name]].dtype) for name, value in merged.items()]
            others = [self._row_of[name] for name in merged]
            rows = frozenset((*(self._row_of[name] for name in factored), *others))
            return Merging(rows, _merge(products, lives), others, values)

    def _base(self, name: str) -> Tensor:
        if name not in self._bases:
            weight = self._functional.base[self._row_of[name]]
            self._bases[name] = in_memory_order(channels_last(weight.float())).contiguous()
        return self._bases[name]


def _merge(products: Sequence[Product], lives: Sequence[Tensor]) -> Callable[[], None]:
    """The merge as one launch, where there is a GPU and Triton."""
    if not products:
        return lambda: None
    if lives[0].is_cuda and find_spec("triton") is not None:
        from lensmount_adapters.kernels.grouped_merge import GroupedMerge  # Triton is no requirement

        return GroupedMerge([Product(p.base, p.B.contiguous(), p.A.contiguous()) for p in products], lives)
    return lambda: merge_each(products, lives)
