"""One branch for a batch in which every sample has an adapter of its own: `y_i = W x_i + B_i (A_i x_i) + shift_i`.

W is the base's, constant and shared; A, B and shift come from tables with one slot for each adapter (Punica, arXiv
2310.18547; S-LoRA, arXiv 2311.03285). Convolutions have two forms of the low-rank term, equal up to rounding:

| form | arithmetic | for |
|---|---|---|
| concatenated | `Bcat (mask . (Acat x))`: all slots' factors side by side, a mask keeps the sample's own | OpenVINO |
| per sample | `B_i (A_i x_i)`: each sample's factors are looked up | eager torch |

OpenVINO has no convolution whose weights depend on the sample, and between convolutions a matmul costs it two changes
of memory layout; eager torch pays for the arithmetic. Linear layers look their factors up in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from lensmount_adapters.backbone.target import Layer
from lensmount_adapters.delta.kinds import Delta, LowRank, Tucker
from lensmount_adapters.graph.fold import by_row, gain_and_shift
from lensmount_adapters.graph.functional import FunctionalBranch
from lensmount_adapters.graph.sites import Call, Site, owners, sites_of
from lensmount_adapters.runners.mixed_ops import (
    add_bias,
    add_concatenated,
    add_convolution,
    add_linear,
    add_pointwise,
    convolve_each,
    convolve_in_turn,
    scale,
    shift,
    slot_rows,
)


@dataclass(frozen=True, slots=True)
class Layout:
    """What adapters change, by module name: `weights`, the `gains` of norms, and `shifts`: all that is added.

    >>> layout = Layout.of(branch, malaria.deltas) | Layout.of(branch, smoking.deltas)     # doctest: +SKIP

    Names are sorted, so equal layouts have equal reprs in every process.
    """

    weights: tuple[str, ...] = ()
    gains: tuple[str, ...] = ()
    shifts: tuple[str, ...] = ()

    @classmethod
    def of(cls, parametric: FunctionalBranch, deltas: Iterable[Delta]) -> Layout | None:
        """What these deltas change in the branch; None where they cannot be mixed.

        So it is for ConvTranspose, for a leaf that was not taken apart, for a layer that the images do not reach
        (a network of position biases), and without any delta: then there is nothing to mix.
        """
        deltas = tuple(deltas)
        if not deltas or not parametric.covers(deltas):
            return None
        modules = owners(parametric)
        if sites_of(parametric, {modules[delta.target.module] for delta in deltas}) is None:
            return None
        weights, gains, shifts = set[str](), set[str](), set[str]()
        for delta in deltas:
            module, own = modules[delta.target.module], delta.target.name.rpartition(".")[2]
            if delta.target.layer in (Layer.LINEAR, Layer.CONV) and own == "weight":
                weights.add(module)
                continue
            shifts.add(module)
            alone = delta.target.layer is Layer.BATCH_NORM and module == delta.target.module  # its shift holds its gain
            if alone or own in ("weight", "running_var"):
                gains.add(module)
        return cls(tuple(sorted(weights)), tuple(sorted(gains)), tuple(sorted(shifts)))

    def __or__(self, other: Layout) -> Layout:
        """What either changes."""
        pairs = zip(self._parts, other._parts, strict=True)
        return Layout(*(tuple(sorted({*own, *others})) for own, others in pairs))

    def covers(self, other: Layout) -> bool:
        """Whether a branch of this layout has room for everything that the other changes."""
        return all(set(others) <= set(own) for own, others in zip(self._parts, other._parts, strict=True))

    @property
    def modules(self) -> frozenset[str]:
        return frozenset().union(*self._parts)

    @property
    def _parts(self) -> tuple[tuple[str, ...], ...]:
        return self.weights, self.gains, self.shifts


@dataclass(frozen=True, slots=True, eq=False)
class PackedFactors:
    """One adapter's factors, scaled and padded: what its slot holds. Fits every Mixed of the same layout and rank."""

    layout: Layout
    rank: int
    factors: tuple[Tensor, ...]
    nbytes: int


class Mixed:
    """One branch for a batch in which every sample has an adapter of its own; made by `mixed`.

    >>> branch = mixed(parametric, layout, slots=16, rank=8)                               # doctest: +SKIP
    >>> factors = branch.pack([branch.prepare(adapter.deltas) for adapter in adapters])    # doctest: +SKIP
    >>> features = branch.module(activations, branch.mask([0, 0, 1]), *factors)            # doctest: +SKIP

    `module.forward(x, mask, *factors)`: the base's weights are constants in it and may share their memory with
    `parametric`. Batch and image size may change from call to call, the factors' shapes never do. Samples must come
    first in every activation: [N, ...] or [N * windows, ...], as in timm's models.
    """

    def __init__(
        self,
        parametric: FunctionalBranch,
        layout: Layout,
        tables: Sequence[_Table],
        module: fx.GraphModule,
        room: _Room,
    ) -> None:
        self.module = module
        self.layout = layout
        self.slots = room.slots
        self.rank = room.rank
        self._parametric = parametric
        self._tables = tables
        self._base = dict(zip(parametric.inputs, parametric.base, strict=True))
        self._modules = owners(parametric)
        self._factored = {table.weight for table in tables if table.part == "A"}
        device = parametric.base[0].device
        self._masks = torch.eye(room.slots, device=device).repeat_interleave(room.rank, dim=1)  # of each slot
        self._idle: tuple[Tensor, ...] = ()
        self._idle = self._factors({}, self._base)  # of a slot without an adapter

    def prepare(self, deltas: Sequence[Delta]) -> PackedFactors:
        """What `pack` else computes at every call: keep it by the adapter's digest. Safe from any thread.

        Raises ValueError for deltas that layout or rank have no room for.
        """
        self._check_room(deltas)
        by_module: dict[str, dict[str, Delta]] = {}
        for delta in deltas:
            by_module.setdefault(self._modules[delta.target.module], {})[delta.target.name] = delta
        whole = [delta for delta in deltas if delta.target.name not in self._factored]
        factors = self._factors(by_module, self._base | self._parametric.merged(whole))
        own = (factor.nbytes for factor, idle in zip(factors, self._idle, strict=True) if factor is not idle)
        return PackedFactors(self.layout, self.rank, factors, sum(own))

    def pack(self, adapters: Sequence[Sequence[Delta] | PackedFactors]) -> tuple[Tensor, ...]:
        """The factors of at most `slots` adapters, float32; a slot that is left over holds the base.

        Raises ValueError for more adapters than slots, and for one prepared for another layout or rank.
        """
        if len(adapters) > self.slots:
            raise ValueError(f"found {len(adapters)} adapters, expected at most {self.slots}: one for each slot")
        ready = [one if isinstance(one, PackedFactors) else self.prepare(one) for one in adapters]
        for one in ready:
            self._check_prepared(one)
        slots = [one.factors for one in ready] + [self._idle] * (self.slots - len(ready))
        return tuple(table.joined(own) for table, own in zip(self._tables, zip(*slots, strict=True), strict=True))

    def mask(self, rows: Sequence[int]) -> Tensor:
        """[N, slots * rank], for a batch whose sample i uses the adapter that was packed as number `rows[i]`."""
        if not all(0 <= row < self.slots for row in rows):
            raise ValueError(f"found rows {list(rows)}, expected numbers from 0 to {self.slots - 1}")
        return self._masks.index_select(0, torch.tensor(rows, dtype=torch.int64, device=self._masks.device))

    def _check_room(self, deltas: Sequence[Delta]) -> None:
        layout = Layout.of(self._parametric, deltas) if deltas else Layout()
        if layout is None or not self.layout.covers(layout):
            raise ValueError("found deltas that this layout has no room for. Fix: ask Layout.covers, mix with a union")
        highest = max((delta.rank or 0 for delta in deltas if delta.target.name in self._factored), default=0)
        if highest > self.rank:
            raise ValueError(f"found rank {highest}, expected at most {self.rank}")

    def _check_prepared(self, one: PackedFactors) -> None:
        if (one.layout, one.rank) != (self.layout, self.rank):
            raise ValueError("found an adapter prepared for another layout or rank. Fix: prepare it for this one")

    def _factors(
        self, by_module: Mapping[str, Mapping[str, Delta]], values: Mapping[str, Tensor]
    ) -> tuple[Tensor, ...]:
        """One slot of every table, from the adapter's deltas by layer and from its merged tensors, or the base's."""
        found: list[Tensor] = []
        with torch.no_grad():
            for index, table in enumerate(self._tables):
                own = by_module.get(table.module, {})
                if self._idle and not own:
                    found.append(self._idle[index])
                elif table.part == "A":  # B follows it
                    found += self._low_rank(table, own)
                elif table.part == "kernels":
                    found.append(values[table.weight].flatten(1))
                elif table.part != "B":
                    gain, added = self._gain_and_shift(table, own, values)
                    found.append(gain if table.part == "gains" else added)
        return tuple(found)

    def _low_rank(self, table: _Table, own: Mapping[str, Delta]) -> tuple[Tensor, Tensor]:
        """A [rank, in, *k] and B [out, rank, *1], scale and gain in B, padded with zeros."""
        base, delta = self._base[table.weight], own.get(table.weight)
        ones = [1] * (base.ndim - 2)
        A, B = base.new_zeros(self.rank, *base.shape[1:]), base.new_zeros(base.shape[0], self.rank, *ones)
        if delta is not None:
            low = delta.folded() if isinstance(delta, Tucker) else delta
            assert isinstance(low, LowRank)  # as of every layer without groups
            up = low.scale * low.B.to(B)
            layer = table.site.layer
            if layer.norm is not None:
                up *= by_row(self._parametric.gain_and_shift(layer, own.values())[0], up)
            A[: low.rank], B[:, : low.rank] = _balanced(low.A.to(A).view(low.rank, *A.shape[1:]), up)
        return A, B

    def _gain_and_shift(
        self, table: _Table, own: Mapping[str, Delta], values: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """What the layer's plain arithmetic is multiplied by, and what is then added, both [channels]."""
        layer = table.site.layer
        if layer.norm is not None:
            return self._parametric.gain_and_shift(layer, own.values())
        if layer.layer is Layer.BATCH_NORM:
            return gain_and_shift(None, *table.site.norm_tensors(values))
        gain, bias = values[table.weight], values.get(f"{table.module}.bias")
        return gain.flatten(), (torch.zeros_like(gain) if bias is None else bias).flatten()


def mixed(parametric: FunctionalBranch, layout: Layout, slots: int, rank: int, *, per_sample: bool = False) -> Mixed:
    """The branch with room for `slots` adapters of this layout and of a rank up to `rank`.

    `per_sample` says the form of convolutions, else they are concatenated: see the module's docstring. Raises
    ValueError for a layout that `Layout.of` did not give for this branch.
    """
    sites = sites_of(parametric, layout.modules)
    if not sites:
        raise ValueError(f"found {layout}, expected one that Layout.of gave for this branch")
    room = _Room(slots, rank, per_sample)
    tables = [table for module in sorted(sites) for table in _tables(sites[module], layout, room)]
    return Mixed(parametric, layout, tables, _Writer(parametric, tables, room).module(), room)


_HALF_MAX = torch.finfo(torch.float16).max


@dataclass(frozen=True, slots=True)
class _Room:
    slots: int
    rank: int
    per_sample: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """One part of a layer's arithmetic with a place for each slot: an input of the mixed branch.

    `A` [slots * rank, in, *k]; `B` [out, slots * rank, *1] where concatenated, else [slots, out, rank, *1]; `kernels`
    [slots, out, in/g * k], the whole weight of a layer with groups; `gains` and `shifts` [slots, channels].
    """

    site: Site
    part: str
    along: int | None = None  # the dimension that slots are joined along; None for one of their own

    @property
    def module(self) -> str:
        return self.site.layer.module

    @property
    def weight(self) -> str:
        return f"{self.module}.weight"

    def joined(self, slots: Sequence[Tensor]) -> Tensor:
        return torch.stack(tuple(slots)) if self.along is None else torch.cat(tuple(slots), self.along)


def _tables(site: Site, layout: Layout, room: _Room) -> list[_Table]:
    module = site.layer.module
    found: list[_Table] = []
    if module in layout.weights and site.groups > 1:
        found.append(_Table(site, "kernels"))  # with the gain in them
    else:
        if module in layout.weights:
            looked_up = room.per_sample or site.layer.layer is Layer.LINEAR
            found += [_Table(site, "A", 0), _Table(site, "B", None if looked_up else 1)]
        if module in layout.gains:
            found.append(_Table(site, "gains"))
    if module in layout.shifts:
        found.append(_Table(site, "shifts"))
    return found


def _balanced(A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    """The same product of A [rank, in, *k] and B [out, rank, *1] with factors of about the same size.

    Scaled by powers of two, so exactly. Half precision then holds both wherever it holds the product, and what is
    beyond it must not become infinite: zero times another slot's B would be a NaN.
    """
    largest_a, largest_b = (factor.abs().flatten(1).amax(1) for factor in (A, B.transpose(0, 1)))  # [rank]
    halfway = ((largest_b.log2() - largest_a.log2()) / 2).round()
    t = torch.exp2(torch.where((largest_a > 0) & (largest_b > 0), halfway, 0))
    return A * by_row(t, A), (B / t.view(1, -1, *[1] * (B.ndim - 2))).clamp(-_HALF_MAX, _HALF_MAX)


class _Writer:
    """Writes the mixed branch's graph: the parametric branch's, with other arithmetic at the layers of the tables."""

    def __init__(self, parametric: FunctionalBranch, tables: Sequence[_Table], room: _Room) -> None:
        self._parametric = parametric
        self._room = room
        self._graph = fx.Graph()
        self._root: dict[str, Any] = {}
        self._values = dict(zip(parametric.inputs, parametric.base, strict=True))
        images, *weights = (node for node in parametric.module.graph.nodes if node.op == "placeholder")
        self._weights = dict(zip(weights, parametric.inputs, strict=True))
        self._copies: dict[fx.Node, fx.Node] = {images: self._graph.node_copy(images)}
        self._constants: dict[str, fx.Node] = {}
        self._mask = self._graph.placeholder("mask")
        self._tables = {
            (table.module, table.part): self._graph.placeholder(f"t{index}_{table.module.replace('.', '_')}")
            for index, table in enumerate(tables)
        }
        self._calls = {call.node: (table.site, call) for table in tables for call in table.site.calls}
        self._rows = self._write(slot_rows, self._mask, room.slots)

    def module(self) -> fx.GraphModule:
        before = self._parametric.module
        for node in before.graph.nodes:
            if node in self._calls:
                self._copies[node] = self._layer(*self._calls[node])
            elif node.op != "placeholder":
                self._copies[node] = self._graph.node_copy(node, self._copy)
            if node.op == "call_module":
                self._root[str(node.target)] = before.get_submodule(str(node.target))
            elif node.op == "get_attr":
                owner, _, own = str(node.target).rpartition(".")
                self._root[str(node.target)] = getattr(before.get_submodule(owner), own)
        if not self._rows.users:
            self._graph.erase_node(self._rows)
        self._graph.lint()
        return fx.GraphModule(self._root, self._graph, "MixedBranch").eval()

    def _layer(self, site: Site, call: Call) -> fx.Node:
        module, x = site.layer.module, self._copy(call.x)
        gains, shifts = self._tables.get((module, "gains")), self._tables.get((module, "shifts"))
        compute = self._with_kernels if (module, "kernels") in self._tables else self._plain
        y = compute(site, call, x)
        if gains is not None:
            y = self._write(scale, y, gains, self._rows, call.dim)
        if (module, "A") in self._tables:
            y = self._add_low_rank(module, call, x, y)
        return y if shifts is None else self._write(shift, y, shifts, self._rows, call.dim)

    def _plain(self, site: Site, call: Call, x: fx.Node) -> fx.Node:
        """The base's arithmetic without what the tables of gains and shifts hold."""
        module, arguments = site.layer.module, dict(call.arguments)
        if call.function is F.batch_norm and (module, "gains") in self._tables:
            return x  # there is nothing else in it
        if (module, "shifts") in self._tables:
            arguments["bias"] = None
        if (module, "gains") in self._tables:
            arguments["weight"] = None
        copied = dict(fx.map_arg(arguments, self._copy))
        if (module, "gains") in self._tables and site.layer.norm is not None:
            # the weight before folding: the base's gain may be zero, so it is not divided out
            copied["weight"] = self._constant(f"{module}.weight", self._parametric.unfolded[f"{module}.weight"])
        return self._graph.call_function(call.function, (x,), copied)

    def _with_kernels(self, site: Site, call: Call, x: fx.Node) -> fx.Node:
        module = site.layer.module
        shape = tuple(self._values[f"{module}.weight"].shape)
        function, chooses = (convolve_each, self._rows) if self._room.per_sample else (convolve_in_turn, self._mask)
        kernels = self._tables[module, "kernels"]
        y = self._write(function, x, kernels, chooses, shape, call.kind, call.geometry)
        bias = call.arguments.get("bias")
        return y if bias is None or (module, "shifts") in self._tables else self._write(add_bias, y, self._copy(bias))

    def _add_low_rank(self, module: str, call: Call, x: fx.Node, y: fx.Node) -> fx.Node:
        given = (y, x, self._tables[module, "A"], self._tables[module, "B"])
        slots = self._room.slots
        if call.function is F.linear:
            return self._write(add_linear, *given, self._rows, slots)
        if not self._room.per_sample:
            return self._write(add_concatenated, *given, self._mask, call.kind, call.geometry)
        stride = call.stride_of_one(self._values[f"{module}.weight"])
        if stride is not None:
            return self._write(add_pointwise, *given, self._rows, slots, stride)
        return self._write(add_convolution, *given, self._rows, slots, call.kind, call.geometry)

    def _copy(self, node: fx.Node) -> fx.Node:
        if node in self._weights:
            return self._constant(self._weights[node], self._values[self._weights[node]])
        return self._copies[node]

    def _constant(self, name: str, value: Tensor) -> fx.Node:
        if name not in self._constants:
            self._root[name] = value
            self._constants[name] = self._graph.get_attr(name)
        return self._constants[name]

    def _write(self, function: Callable[..., Any], *args: Any) -> fx.Node:
        return self._graph.call_function(function, args)
