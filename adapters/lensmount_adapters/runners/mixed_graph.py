"""Writes the graph of the mixed branch: the functional branch with other arithmetic at the layers that adapters change.

A convolution before and after, if its weight and its shift are in the layout (concatenated form):

    y = conv(x, weight, bias)                      # weight and bias are inputs of the functional branch
    y = conv(x, W, None)                           # W is a constant
    y = add_concatenated(y, x, A, B, mask, ...)    # A, B and shifts are tables with all slots, mask chooses
    y = shift(y, shifts, rows, 1)                  # rows = slot_rows(mask, slots)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from lensmount_adapters.backbone.target import Layer
from lensmount_adapters.graph.functional import FunctionalBranch
from lensmount_adapters.graph.sites import Call, Site
from lensmount_adapters.runners.mixed_layout import Layout
from lensmount_adapters.runners.mixed_ops import (
    TORCH,
    LowRankOps,
    add_bias,
    add_concatenated,
    convolve_each,
    convolve_in_turn,
    scale,
    shift,
    slot_rows,
)


@dataclass(frozen=True, slots=True)
class Room:
    """How many adapters, of which rank, and in which form their convolutions are computed (see runners/mixed.py)."""

    slots: int
    rank: int
    per_sample: bool


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """An input of the mixed branch: one part of a layer's arithmetic, for each slot.

    `A` [slots * rank, in, *k]; `B` [out, slots * rank, *1] if concatenated, otherwise [slots, out, rank, *1]; `kernels`
    [slots, out, in/g * k], the full weight of a layer with groups; `gains` and `shifts` [slots, channels].
    """

    site: Site
    part: str
    along: int | None = None  # the dimension along which slots are concatenated; None: they are stacked along a new one

    @property
    def module(self) -> str:
        return self.site.layer.module

    @property
    def weight(self) -> str:
        return f"{self.module}.weight"

    def joined(self, slots: Sequence[Tensor]) -> Tensor:
        """The table of these slots."""
        return torch.stack(tuple(slots)) if self.along is None else torch.cat(tuple(slots), self.along)

    def part_of(self, table: Tensor, slot: int, slots: int) -> Tensor:
        """A view of one slot of a joined table."""
        if self.along is None:
            return table[slot]
        size = table.shape[self.along] // slots
        return table.narrow(self.along, slot * size, size)


def tables_of(site: Site, layout: Layout, room: Room) -> list[Table]:
    """The tables of the layer at this site."""
    module = site.layer.module
    tables: list[Table] = []
    if module in layout.weights and site.groups > 1:
        tables.append(Table(site, "kernels"))  # they contain the gain
    else:
        if module in layout.weights:
            looked_up = room.per_sample or site.layer.layer is Layer.LINEAR
            tables += [Table(site, "A", 0), Table(site, "B", None if looked_up else 1)]
        if module in layout.gains:
            tables.append(Table(site, "gains"))
    if module in layout.shifts:
        tables.append(Table(site, "shifts"))
    return tables


class MixedGraph:
    """`MixedGraph(functional, tables, room).module()`: the branch as a function of activations, mask and tables."""

    def __init__(
        self, functional: FunctionalBranch, tables: Sequence[Table], room: Room, ops: LowRankOps = TORCH
    ) -> None:
        self._ops = ops
        self._functional = functional
        self._room = room
        self._graph = fx.Graph()
        self._root: dict[str, Any] = {}
        self._values = dict(zip(functional.inputs, functional.base, strict=True))
        images, *weights = (node for node in functional.module.graph.nodes if node.op == "placeholder")
        self._weights = dict(zip(weights, functional.inputs, strict=True))
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
        """The written graph. Constants are the very tensors of the functional branch."""
        before = self._functional.module
        for node in before.graph.nodes:
            if node in self._calls:
                self._copies[node] = self._layer(*self._calls[node])
            elif node.op != "placeholder":
                self._copies[node] = self._graph.node_copy(node, self._copy)
            if node.op == "call_module":
                self._root[str(node.target)] = before.get_submodule(str(node.target))
            elif node.op == "get_attr":
                owner, _, attribute = str(node.target).rpartition(".")
                self._root[str(node.target)] = getattr(before.get_submodule(owner), attribute)
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
        """The base's arithmetic without the gains and shifts that come from tables."""
        module, arguments = site.layer.module, dict(call.arguments)
        if call.function is F.batch_norm and (module, "gains") in self._tables:
            return x  # gain and shift are all that it computes
        if (module, "shifts") in self._tables:
            arguments["bias"] = None
        if (module, "gains") in self._tables:
            arguments["weight"] = None
        copied = dict(fx.map_arg(arguments, self._copy))
        if (module, "gains") in self._tables and site.layer.norm is not None:
            # the weight before folding, because dividing the folded one by the base's gain fails if that is zero
            copied["weight"] = self._constant(f"{module}.weight", self._functional.unfolded[f"{module}.weight"])
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
            return self._write(self._ops.linear, *given, self._rows, slots)
        if not self._room.per_sample:
            return self._write(add_concatenated, *given, self._mask, call.kind, call.geometry)
        stride = call.stride_of_one(self._values[f"{module}.weight"])
        if stride is not None:
            return self._write(self._ops.pointwise, *given, self._rows, slots, stride)
        return self._write(self._ops.convolution, *given, self._rows, slots, call.kind, call.geometry)

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
