"""A traced module as a function of its weights: an adapter supplies different weights, and nothing is written in place.

Every tensor that an adapter may change becomes an input of the graph. An eval-mode BatchNorm after a convolution is
folded into it (fold.py has the formula): the convolution's weight and bias then contain the norm, and a delta of the
weight is scaled by the same gain. One layer before and after, with `s = gamma / sqrt(var + eps)`:

    before, as traced: modules own the weights
        x [N, in, H, W] --> conv1 (W, b) --> bn1 (mean, var, gamma, beta) --> act1 -->

    after: the weights are inputs
        x [N, in, H, W] ------------------+
        w0 [out, in, k, k] = s * W -------+--> F.conv2d(x, weight=w0, bias=w1) --> act1 -->
        w1 [out] = s * (b - mean) + beta -+

    with an adapter whose delta of W is scale * B @ A
        w0 = s * (W + scale * B @ A) = w0 of the base + scale * (s * B) @ A
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.delta.kinds import Delta, GroupedLowRank, LowRank, Tucker, planned
from lensmount_adapters.errors import BackboneError
from lensmount_adapters.graph.fold import by_row, gain_and_shift
from lensmount_adapters.graph.plain_calls import NORM_TENSORS, AdaptableLayer, PlainCalls, tensors_of_calls


class FunctionalBranch:
    """A traced module as a function of its weights, with BatchNorm folded.

    >>> halves = Segments(backbone.module).halves(tensors)                                 # doctest: +SKIP
    >>> branch = functional_branch(halves.branch, backbone)                                # doctest: +SKIP
    >>> merged = branch.merged(adapter.deltas)                                             # doctest: +SKIP
    >>> weights = [merged.get(name, base) for name, base in zip(branch.inputs, branch.base)]   # doctest: +SKIP
    >>> features = branch.module(activations, *weights)                                    # doctest: +SKIP

    `module.forward(x, *weights)` takes the weights in the order of `inputs`. `base` are their values with nothing
    mounted, in float32; never write to them. `layers` are the layers that may be adapted, by module name. `unfolded`
    are the tensors of the layers with a folded norm, and of these norms, before folding. A tensor that is not an input
    (a layer scale, or one of a layer that could not be rewritten) may share its memory with the backbone: it may be
    cast but not written to.
    """

    def __init__(
        self,
        module: fx.GraphModule,
        base: Mapping[str, Tensor],
        layers: Mapping[str, AdaptableLayer],
        unfolded: Mapping[str, Tensor],
    ) -> None:
        self.module = module
        self.inputs = tuple(base)
        self.base = tuple(base.values())
        self.layers = layers
        self._base = base
        self.unfolded = unfolded
        self._owners = {name: layer for layer in layers.values() for name in _owned(layer, unfolded)}

    def covers(self, deltas: Iterable[Delta]) -> bool:
        """Return True if the tensor of every delta is an input or is folded into one."""
        return all(delta.target.name in self._owners for delta in deltas)

    def merged(self, deltas: Sequence[Delta], out: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The folded weights that these deltas change, by input name, in float32. All other weights stay `base`.

        `out`: contiguous float32 buffers to write into, by input name; missing ones are allocated. Raises BackboneError
        for a delta that `covers` refuses. Any thread may call it.
        """
        by_layer: dict[str, dict[str, Delta]] = {}  # layer name, tensor name
        for delta in deltas:
            name = delta.target.name
            if name not in self._owners:
                raise BackboneError(
                    f"{name}: found a delta for it, expected one for a tensor that is an input of this branch. "
                    "Fix: check covers() first, and mount such an adapter on the backbone itself"
                )
            by_layer.setdefault(self._owners[name].module, {})[name] = delta
        changed: dict[str, Tensor] = {}
        plans: list[Callable[[], None]] = []
        with torch.no_grad():
            for module, layer_deltas in by_layer.items():
                changed |= self._merge(self.layers[module], layer_deltas, out or {}, plans)
            for write in plans:
                write()
        return changed

    def factored(self, deltas: Iterable[Delta]) -> tuple[dict[str, LowRank], list[Delta]]:
        """The deltas of weights that are only added to, `base + low rank`, by input name; and all other deltas.

        `merged` gives what the others change. Raises BackboneError as it does, for a delta that is not covered.
        """
        by_layer: dict[str, list[Delta]] = {}
        rest: list[Delta] = []
        for delta in deltas:
            owner = self._owners.get(delta.target.name)
            (rest if owner is None else by_layer.setdefault(owner.module, [])).append(delta)
        factored: dict[str, LowRank] = {}
        for module, own in by_layer.items():
            norm, (first, *others) = self.layers[module].norm, own
            if others or not isinstance(first, LowRank) or first.target.name != f"{module}.weight":
                rest += own
            else:
                low = first if norm is None else _scaled(first, norm.gain)
                assert isinstance(low, LowRank)  # scaled as it is
                factored[first.target.name] = low
        return factored, rest

    def gain_and_shift(self, layer: AdaptableLayer, deltas: Iterable[Delta]) -> tuple[Tensor, Tensor]:
        """The gain and shift of a layer with a folded norm, both [out], with these deltas applied.

        The layer computes `gain * conv(x, unfolded weight) + shift`. Raises ValueError for a layer without such a norm.
        """
        if layer.norm is None:
            raise ValueError(f"{layer.module}: found no folded norm, expected one")
        by_tensor = {delta.target.name: delta for delta in deltas}

        def live(name: str) -> Any:
            base = self.unfolded.get(name)
            return by_tensor[name].merged(base) if base is not None and name in by_tensor else base

        mean, var, gamma, beta = (live(f"{layer.norm.name}.{name}") for name in NORM_TENSORS)
        return gain_and_shift(live(f"{layer.module}.bias"), mean, var, gamma, beta, layer.norm.eps)

    def _merge(
        self,
        layer: AdaptableLayer,
        deltas: Mapping[str, Delta],
        out: Mapping[str, Tensor],
        plans: list[Callable[[], None]],
    ) -> dict[str, Tensor]:
        """Return the output tensors. They contain valid data only after every callable appended to `plans` has run."""

        def written(name: str, delta: Delta) -> Tensor:
            base = self._base[name]
            live = torch.empty_like(base) if name not in out else out[name]
            plans.append(planned(delta, base, live))
            return live

        if layer.norm is None:
            return {name: written(name, delta) for name, delta in deltas.items()}
        weight, bias = f"{layer.module}.weight", f"{layer.module}.bias"
        delta = deltas.get(weight)
        gain, changed = layer.norm.gain, dict[str, Tensor]()
        if len(deltas) == 1 and isinstance(delta, _WITH_ROWS):  # by far the most common; a switch has many of them
            return {weight: written(weight, _scaled(delta, gain))}
        if deltas.keys() != {weight}:
            gain, shift = self.gain_and_shift(layer, deltas.values())
            changed[bias] = out[bias].copy_(shift) if bias in out else shift
        rescaled = not deltas.keys().isdisjoint((f"{layer.norm.name}.weight", f"{layer.norm.name}.running_var"))
        if rescaled or not (delta is None or isinstance(delta, _WITH_ROWS)):
            # start from the weight before folding: the gain of the base may be zero, so do not divide by it
            base = self.unfolded[weight]
            live = base
            if delta is not None:
                live = torch.empty_like(base) if weight not in out else out[weight]
                delta.write(base, live)
            changed[weight] = torch.mul(live, by_row(gain, live), out=out.get(weight))
        elif delta is not None:
            changed[weight] = written(weight, _scaled(delta, gain))
        return changed


def functional_branch(module: fx.GraphModule, backbone: Backbone) -> FunctionalBranch:
    """The branch `module` of the backbone as a function of its weights.

    `base` has the base values of the weights, whatever adapter is mounted.
    """
    names = [name for name in tensors_of_calls(module) if name in backbone.targets]
    calls = PlainCalls(module, backbone.base(names))
    last = calls.images
    base: dict[str, Tensor] = {}
    readers: dict[str, dict[fx.Node, None]] = {}  # the nodes that read a layer's weights
    for node in calls.graph.nodes:
        if node.op != "get_attr" or node.target not in calls.values:
            continue
        name = str(node.target)
        with calls.graph.inserting_after(last):
            last = calls.graph.placeholder(f"w{len(base)}_{name.replace('.', '_')}")  # unique, and a legal Python name
        readers.setdefault(name.rpartition(".")[0], {}).update(node.users)
        node.replace_all_uses_with(last)
        calls.graph.erase_node(node)
        base[name] = calls.values[name]
    layers = {
        layer: calls.layer(layer, [name for name in base if name.rpartition(".")[0] == layer], users, backbone.targets)
        for layer, users in readers.items()
    }
    return FunctionalBranch(calls.assembled(), base, layers, calls.unfolded)


def frozen(module: fx.GraphModule) -> fx.GraphModule:
    """The trunk `module` with every BatchNorm folded: the same function in float32, with the images as its only input.

    Unchanged tensors share their memory with `module`: they may be cast but not written to.
    """
    return PlainCalls(module, tensors_of_calls(module)).assembled()


def _owned(layer: AdaptableLayer, unfolded: Mapping[str, Tensor]) -> list[str]:
    """The names of the tensors that reach the graph through this layer's inputs."""
    if layer.norm is None:
        return list(layer.inputs)
    return [name for name in unfolded if name.rpartition(".")[0] in (layer.module, layer.norm.name)]


_WITH_ROWS = (LowRank, GroupedLowRank, Tucker)  # B has one row per output, so only B has to be scaled


def _scaled(delta: LowRank | GroupedLowRank | Tucker, gain: Tensor) -> Delta:
    """The delta of a convolution's weight, with its rows multiplied by `gain` [out]."""
    B = delta.B * by_row(gain, delta.B)  # float32, like the gain
    if isinstance(delta, Tucker):
        return Tucker(delta.target, delta.A, delta.mid, B, delta.scale)
    return type(delta)(delta.target, delta.A, B, delta.scale)
