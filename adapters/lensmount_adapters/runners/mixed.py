"""One branch for a batch in which every sample has its own adapter: `y_i = W x_i + B_i (A_i x_i) + shift_i`.

W is the base's weight, constant and shared; A, B and shift come from tables with a slot per adapter (Punica, arXiv
2310.18547; S-LoRA, arXiv 2311.03285). Convolutions have two forms of the low-rank term, equal up to rounding:

| form | arithmetic | for |
|---|---|---|
| concatenated | `Bcat (mask . (Acat x))`: all slots' factors side by side; a mask keeps the sample's own | OpenVINO |
| per sample | `B_i (A_i x_i)`: each sample's factors are looked up | eager torch |

OpenVINO has no convolution whose weights depend on the sample, and a matmul between convolutions costs it two changes
of memory layout. Eager torch is limited by the arithmetic, of which the concatenated form does more. Linear layers look
up their factors in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from lensmount_adapters.backbone.target import Layer
from lensmount_adapters.delta.kinds import Delta, LowRank, Tucker
from lensmount_adapters.graph.fold import by_row, gain_and_shift
from lensmount_adapters.graph.functional import FunctionalBranch
from lensmount_adapters.graph.sites import owners, sites_of
from lensmount_adapters.inputs.upload import upload
from lensmount_adapters.runners.mixed_graph import MixedGraph, Room, Table, tables_of
from lensmount_adapters.runners.mixed_layout import Layout
from lensmount_adapters.runners.mixed_ops import TORCH, LowRankOps


@dataclass(frozen=True, slots=True, eq=False)
class PackedFactors:
    """One adapter's factors, scaled and padded, for one slot of any Mixed of the same layout and rank."""

    layout: Layout
    rank: int
    factors: tuple[Tensor, ...]
    nbytes: int


class Mixed:
    """One branch for a batch in which every sample has its own adapter; made by `mixed`.

    >>> branch = mixed(functional, layout, slots=16, rank=8)                               # doctest: +SKIP
    >>> factors = branch.pack([branch.prepare(adapter.deltas) for adapter in adapters])    # doctest: +SKIP
    >>> features = branch.module(activations, branch.mask([0, 0, 1]), *factors)            # doctest: +SKIP

    `module.forward(x, mask, *factors)`: the base's weights are its constants and may share their memory with
    `functional`. Batch size and image size may change from call to call, the factors' shapes never do. Samples must be
    the first dimension of every activation: [N, ...] or [N * windows, ...], as in timm's models.
    """

    def __init__(
        self,
        functional: FunctionalBranch,
        layout: Layout,
        tables: Sequence[Table],
        module: fx.GraphModule,
        room: Room,
    ) -> None:
        self.module = module
        self.layout = layout
        self.slots = room.slots
        self.rank = room.rank
        self._functional = functional
        self._tables = tables
        self._base = dict(zip(functional.inputs, functional.base, strict=True))
        self._modules = owners(functional)
        self._factored = {table.weight for table in tables if table.part == "A"}
        device = functional.base[0].device
        self._masks = torch.eye(room.slots, device=device).repeat_interleave(room.rank, dim=1)  # of each slot
        self._idle: tuple[Tensor, ...] = ()
        self._idle = self._factors({}, self._base)  # of a slot without an adapter

    def prepare(self, deltas: Sequence[Delta]) -> PackedFactors:
        """An adapter's factors, so that `pack` need not compute them at every call. Safe from any thread.

        Raises ValueError for deltas that the layout or the rank has no room for.
        """
        self._check_room(deltas)
        by_module: dict[str, dict[str, Delta]] = {}
        for delta in deltas:
            by_module.setdefault(self._modules[delta.target.module], {})[delta.target.name] = delta
        dense = [delta for delta in deltas if delta.target.name not in self._factored]
        factors = self._factors(by_module, self._base | self._functional.merged(dense))
        sizes = (factor.nbytes for factor, idle in zip(factors, self._idle, strict=True) if factor is not idle)
        return PackedFactors(self.layout, self.rank, factors, sum(sizes))

    def pack(self, adapters: Sequence[Sequence[Delta] | PackedFactors]) -> tuple[Tensor, ...]:
        """The factors of at most `slots` adapters, float32. Slots that are left over contain the base.

        Raises ValueError for more adapters than slots, and for factors prepared for another layout or rank.
        """
        if len(adapters) > self.slots:
            raise ValueError(f"found {len(adapters)} adapters, expected at most {self.slots}: one for each slot")
        packed = [each if isinstance(each, PackedFactors) else self.prepare(each) for each in adapters]
        for factors in packed:
            self._check_prepared(factors)
        slots = [factors.factors for factors in packed] + [self._idle] * (self.slots - len(packed))
        return tuple(table.joined(parts) for table, parts in zip(self._tables, zip(*slots, strict=True), strict=True))

    def slot_of(self, packed: Sequence[Tensor], slot: int) -> list[Tensor]:
        """Views of one slot of the tables that `pack` returned, or of tables like them."""
        return [table.part_of(each, slot, self.slots) for table, each in zip(self._tables, packed, strict=True)]

    def mask(self, rows: Sequence[int]) -> Tensor:
        """[N, slots * rank], for a batch whose sample i uses the adapter that was packed as number `rows[i]`."""
        if not all(0 <= row < self.slots for row in rows):
            raise ValueError(f"found rows {list(rows)}, expected numbers from 0 to {self.slots - 1}")
        return self._masks.index_select(0, upload(torch.tensor(rows, dtype=torch.int64), self._masks.device))

    def _check_room(self, deltas: Sequence[Delta]) -> None:
        layout = Layout.of(self._functional, deltas) if deltas else Layout()
        if layout is None or not self.layout.covers(layout):
            raise ValueError(
                "found deltas that this layout has no room for. Fix: build the mixed branch for the union of layouts"
            )
        highest = max((delta.rank or 0 for delta in deltas if delta.target.name in self._factored), default=0)
        if highest > self.rank:
            raise ValueError(f"found rank {highest}, expected at most {self.rank}")

    def _check_prepared(self, factors: PackedFactors) -> None:
        if (factors.layout, factors.rank) != (self.layout, self.rank):
            raise ValueError("found an adapter prepared for another layout or rank. Fix: prepare it for this one")

    def _factors(
        self, by_module: Mapping[str, Mapping[str, Delta]], values: Mapping[str, Tensor]
    ) -> tuple[Tensor, ...]:
        """One slot of every table, from the adapter's deltas by layer and its merged tensors, or from the base's."""
        slot: list[Tensor] = []
        with torch.no_grad():
            for index, table in enumerate(self._tables):
                deltas = by_module.get(table.module, {})
                if self._idle and not deltas:
                    slot.append(self._idle[index])
                elif table.part == "A":  # B follows it
                    slot += self._low_rank(table, deltas)
                elif table.part == "kernels":
                    slot.append(values[table.weight].flatten(1))
                elif table.part != "B":
                    gain, added = self._gain_and_shift(table, deltas, values)
                    slot.append(gain if table.part == "gains" else added)
        return tuple(slot)

    def _low_rank(self, table: Table, deltas: Mapping[str, Delta]) -> tuple[Tensor, Tensor]:
        """A [rank, in, *k] and B [out, rank, *1], padded with zeros. B contains scale and gain."""
        base, delta = self._base[table.weight], deltas.get(table.weight)
        ones = [1] * (base.ndim - 2)
        A, B = base.new_zeros(self.rank, *base.shape[1:]), base.new_zeros(base.shape[0], self.rank, *ones)
        if delta is not None:
            low = delta.folded() if isinstance(delta, Tucker) else delta
            assert isinstance(low, LowRank)  # true of every layer without groups
            up = low.scale * low.B.to(B)
            layer = table.site.layer
            if layer.norm is not None:
                up *= by_row(self._functional.gain_and_shift(layer, deltas.values())[0], up)
            A[: low.rank], B[:, : low.rank] = _balanced(low.A.to(A).view(low.rank, *A.shape[1:]), up)
        return A, B

    def _gain_and_shift(
        self, table: Table, deltas: Mapping[str, Delta], values: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The factor for the layer's plain arithmetic and the shift to add afterwards, both [channels]."""
        layer = table.site.layer
        if layer.norm is not None:
            return self._functional.gain_and_shift(layer, deltas.values())
        if layer.layer is Layer.BATCH_NORM:
            return gain_and_shift(None, *table.site.norm_tensors(values))
        gain, bias = values[table.weight], values.get(f"{table.module}.bias")
        return gain.flatten(), (torch.zeros_like(gain) if bias is None else bias).flatten()


def mixed(
    functional: FunctionalBranch,
    layout: Layout,
    slots: int,
    rank: int,
    *,
    per_sample: bool = False,
    ops: LowRankOps = TORCH,
) -> Mixed:
    """The branch with room for `slots` adapters of this layout and of a rank up to `rank`.

    `per_sample` selects that form of convolutions; otherwise they are concatenated (see the module's docstring).
    `ops` compute layers whose factors are looked up. Raises
    ValueError for a layout that `Layout.of` did not return for this branch.
    """
    sites = sites_of(functional, layout.modules)
    if not sites:
        raise ValueError(f"found {layout}, expected one that Layout.of returned for this branch")
    room = Room(slots, rank, per_sample)
    tables = [table for module in sorted(sites) for table in tables_of(sites[module], layout, room)]
    return Mixed(functional, layout, tables, MixedGraph(functional, tables, room, ops).module(), room)


_HALF_MAX = torch.finfo(torch.float16).max


def _balanced(A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    """The same product of A [rank, in, *k] and B [out, rank, *1] with factors of about the same size.

    They are scaled by powers of two, so the product is exact. Half precision can then represent both factors wherever
    it can represent the product. Values beyond its range must not become infinite: zero times an infinity in another
    slot's B would be a NaN.
    """
    largest_a, largest_b = (factor.abs().flatten(1).amax(1) for factor in (A, B.transpose(0, 1)))  # [rank]
    halfway = ((largest_b.log2() - largest_a.log2()) / 2).round()
    t = torch.exp2(torch.where((largest_a > 0) & (largest_b > 0), halfway, 0))
    return A * by_row(t, A), (B / t.view(1, -1, *[1] * (B.ndim - 2))).clamp(-_HALF_MAX, _HALF_MAX)
