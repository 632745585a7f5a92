"""A traced module as a function of its weights: an adapter is other weights, and nothing is ever written in place.

Every tensor that an adapter may touch is an input. An eval-mode BatchNorm behind a convolution is folded into it
(`fold.py` has the formula): its vectors are then in the convolution's weight and bias, and deltas are scaled alike.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, fx, nn
from torch.nn import functional as F

from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.backbone.target import Layer, Target
from lensmount_adapters.delta.kinds import Delta, GroupedLowRank, LowRank, Tucker, planned
from lensmount_adapters.errors import BackboneError
from lensmount_adapters.graph.fold import CONVOLUTIONS, NORMS, by_row, convolution_before, gain_and_shift


@dataclass(frozen=True, slots=True, eq=False)
class FoldedNorm:
    """A BatchNorm that is in the weight and bias of its convolution; `gain` is `gamma / sqrt(var + eps)`, [out]."""

    name: str
    eps: float
    gain: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class AdaptableLayer:
    """A layer whose tensors an adapter may change, and where the graph computes it.

    `inputs` are the names of its weights among the graph's inputs, `nodes` those of the graph's nodes that read them:
    plain calls such as `F.conv2d(x, weight=..., bias=..., **geometry)`. `norm` is the BatchNorm folded into it.
    """

    module: str
    layer: Layer
    inputs: tuple[str, ...]
    nodes: tuple[str, ...]
    geometry: Mapping[str, Any]
    norm: FoldedNorm | None = None


class FunctionalBranch:
    """A traced module as a function of its weights: BatchNorm folded, every weight that an adapter may touch an input.

    >>> branch = parametric(Segments(backbone.module).halves(tensors).branch, backbone)    # doctest: +SKIP
    >>> merged = branch.merged(adapter.deltas)                                             # doctest: +SKIP
    >>> weights = [merged.get(name, base) for name, base in zip(branch.inputs, branch.base)]   # doctest: +SKIP
    >>> features = branch.module(activations, *weights)                                    # doctest: +SKIP

    `module.forward(x, *weights)` takes the weights in the order of `inputs`; `base` are their values with nothing
    mounted, float32, never to be written. `layers` tells what may be adapted, by module name. What is no input (a
    layer scale, a leaf that was not taken apart) may share its memory with the backbone: cast it, but do not write it.
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
        self.unfolded = unfolded  # the tensors of the layers with a folded norm, and of these norms
        self._owners = {name: layer for layer in layers.values() for name in _owned(layer, unfolded)}

    def covers(self, deltas: Iterable[Delta]) -> bool:
        """Whether every delta's tensor is an input, or folded into one."""
        return all(delta.target.name in self._owners for delta in deltas)

    def merged(self, deltas: Sequence[Delta], out: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The folded weights that these deltas change, by input name, float32; everything else is base.

        `out`: contiguous float32 buffers to write into, by input name; what is missing there is allocated. Raises
        BackboneError for a delta that `covers` refuses. Safe from any thread.
        """
        found: dict[str, dict[str, Delta]] = {}  # by layer, by tensor
        for delta in deltas:
            name = delta.target.name
            if name not in self._owners:
                raise BackboneError(
                    f"{name}: found a delta for it, expected one for a tensor that is an input of this branch. "
                    "Fix: ask covers(), and mount such an adapter on the backbone itself"
                )
            found.setdefault(self._owners[name].module, {})[name] = delta
        changed: dict[str, Tensor] = {}
        plans: list[Callable[[], None]] = []
        with torch.no_grad():
            for module, own in found.items():
                changed |= self._merge(self.layers[module], own, out or {}, plans)
            for write in plans:
                write()
        return changed

    def gain_and_shift(self, layer: AdaptableLayer, deltas: Iterable[Delta]) -> tuple[Tensor, Tensor]:
        """With these deltas on, a layer with a folded norm is `gain * conv(x, unfolded weight) + shift`, both [out].

        Raises ValueError for a layer without one.
        """
        if layer.norm is None:
            raise ValueError(f"{layer.module}: found no folded norm, expected one")
        added = {delta.target.name: delta for delta in deltas}

        def live(name: str) -> Any:
            base = self.unfolded.get(name)
            return base + added[name].dense() if base is not None and name in added else base

        mean, var, gamma, beta = (live(f"{layer.norm.name}.{name}") for name in _NORM_TENSORS)
        return gain_and_shift(live(f"{layer.module}.bias"), mean, var, gamma, beta, layer.norm.eps)

    def _merge(
        self,
        layer: AdaptableLayer,
        deltas: Mapping[str, Delta],
        out: Mapping[str, Tensor],
        plans: list[Callable[[], None]],
    ) -> dict[str, Tensor]:
        """The tensors to be; they are written when `plans`, to which theirs are added, were called."""

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
        if len(deltas) == 1 and isinstance(delta, _WITH_ROWS):  # the commonest by far, and a switch has many of them
            return {weight: written(weight, _scaled(delta, gain))}
        if deltas.keys() != {weight}:
            gain, shift = self.gain_and_shift(layer, deltas.values())
            changed[bias] = out[bias].copy_(shift) if bias in out else shift
        rescaled = not deltas.keys().isdisjoint((f"{layer.norm.name}.weight", f"{layer.norm.name}.running_var"))
        if rescaled or not (delta is None or isinstance(delta, _WITH_ROWS)):
            # from the weight before folding: the base's gain may be zero, so it is not divided out
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
    """The branch `module` of the backbone as a function of its weights, at their base values whatever is mounted."""
    names = [name for name in _tensors_of_calls(module) if name in backbone.targets]
    calls = _Calls(module, backbone.base(names))
    last = calls.images
    base: dict[str, Tensor] = {}
    readers: dict[str, dict[fx.Node, None]] = {}  # the nodes that read a layer's weights
    for node in calls.graph.nodes:
        if node.op != "get_attr" or node.target not in calls.values:
            continue
        name = str(node.target)
        with calls.graph.inserting_after(last):
            last = calls.graph.placeholder(f"w{len(base)}_{name.replace('.', '_')}")  # a name of its own, and legal
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
    """The trunk `module` with every BatchNorm folded: the same function in float32, its images the only input.

    Tensors that did not change share their memory with `module`: cast them, but do not write them.
    """
    return _Calls(module, {name: _attribute(module, name) for name in _tensors_of_calls(module)}).assembled()


_NORM_TENSORS = ("running_mean", "running_var", "weight", "bias")
_GEOMETRY = ("stride", "padding", "dilation", "groups")
_NO_OPERATIONS = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)  # in eval mode


class _Calls:
    """A traced module with its layers as plain calls in `graph`, each weight a get_attr node of its own name.

    `values` are the weights by name; where a norm is folded they are the folded ones, and those before are in
    `unfolded`. A layer with a tensor that is not among the given `weights` stays as it is.
    """

    def __init__(self, module: fx.GraphModule, weights: Mapping[str, Tensor]) -> None:
        self.values = {name: _float32(tensor) for name, tensor in weights.items()}
        self.unfolded: dict[str, Tensor] = {}
        self.graph = fx.Graph()
        self._module = module
        self._norms: dict[str, FoldedNorm] = {}  # by the convolution's name
        self._attributes: dict[str, fx.Node] = {}
        pairs = self._pairs()
        copies: dict[fx.Node, Any] = {}
        for node in module.graph.nodes:
            if node in pairs:
                copies[node] = self._fold(pairs[node], node, copies)
            elif node not in pairs.values():  # these are computed where their norm stands
                copies[node] = self._copy(node, copies)
        self.images: fx.Node = copies[next(iter(module.graph.nodes))]
        self.graph.lint()

    def layer(
        self, module: str, inputs: Sequence[str], readers: Iterable[fx.Node], targets: Mapping[str, Target]
    ) -> AdaptableLayer:
        kind = next(target.layer for name, target in targets.items() if name.rpartition(".")[0] == module)
        geometry = {name: value for node in readers for name, value in node.kwargs.items() if name in _GEOMETRY}
        nodes = tuple(node.name for node in readers)
        return AdaptableLayer(module, kind, tuple(inputs), nodes, geometry, self._norms.get(module))

    def assembled(self) -> fx.GraphModule:
        root: dict[str, Any] = {}
        for node in self.graph.nodes:
            name = str(node.target)
            if node.op == "call_module":
                root[name] = _detached(self._module.get_submodule(name))
            elif node.op == "get_attr":
                root[name] = self.values[name] if name in self.values else _float32(_attribute(self._module, name))
        return fx.GraphModule(root, self.graph).eval()

    def _pairs(self) -> dict[fx.Node, fx.Node]:
        """Each norm that can be folded, with its convolution; a layer that is used twice has weights of its own."""
        nodes = [node for node in self._module.graph.nodes if node.op == "call_module"]
        uses = Counter(node.target for node in nodes)
        pairs = {norm: conv for norm in nodes if (conv := convolution_before(self._module, norm)) is not None}
        return {
            norm: conv
            for norm, conv in pairs.items()
            if uses[norm.target] == uses[conv.target] == 1 and self._call(norm) and self._call(conv)
        }

    def _copy(self, node: fx.Node, copies: Mapping[fx.Node, Any]) -> Any:
        given = [copies[before] for before in node.all_input_nodes]
        if node.op == "placeholder" and node.args:
            return node.args[0]  # an argument that is never given is its default
        if node.op == "call_function" and given and not any(isinstance(value, fx.Node) for value in given):
            return node.target(*fx.map_arg(node.args, copies.__getitem__))  # type: ignore[operator]  # a check of it
        if node.op == "get_attr" and node.target in self.values:
            return self._weight(str(node.target))
        if node.op == "call_module" and isinstance(self._layer(node), _NO_OPERATIONS):
            return given[0]
        if node.op == "call_module" and (call := self._call(node)):
            return self._activated(node, self._write(node, call, given[0]))
        return self.graph.node_copy(node, copies.__getitem__)

    def _fold(self, conv: fx.Node, norm: fx.Node, copies: Mapping[fx.Node, Any]) -> fx.Node:
        def value(node: fx.Node, name: str) -> Any:
            return self.values.get(f"{node.target}.{name}")

        mean, var, gamma, beta = (value(norm, name) for name in _NORM_TENSORS)
        weight, bias, eps = value(conv, "weight"), value(conv, "bias"), self._layer(norm).eps
        gain, shift = gain_and_shift(bias, mean, var, gamma, beta, eps)
        for node in (conv, norm):
            self.unfolded |= {name: self.values.pop(name) for name in _own_tensors(node, self._layer(node))}
        self.values[f"{conv.target}.weight"] = weight * by_row(gain, weight)
        self.values[f"{conv.target}.bias"] = shift
        self._norms[str(conv.target)] = FoldedNorm(str(norm.target), eps, gain)
        call = _call(conv, self._layer(conv))
        assert call is not None  # or it would not be one of the pairs
        return self._activated(norm, self._write(conv, call, copies[conv.all_input_nodes[0]]))

    def _call(self, node: fx.Node) -> _Call | None:
        """The node as a call, where all its layer's tensors are weights."""
        layer = self._layer(node)
        return _call(node, layer) if all(name in self.values for name in _own_tensors(node, layer)) else None

    def _write(self, node: fx.Node, call: _Call, x: fx.Node) -> fx.Node:
        names = {name: f"{node.target}.{name}" for name in call.tensors}
        weights = {name: self._weight(full) if full in self.values else None for name, full in names.items()}
        return self.graph.call_function(call.function, (x,), {**weights, **call.constants})

    def _activated(self, node: fx.Node, x: fx.Node) -> fx.Node:
        """timm's norms hold their activation."""
        layer = self._layer(node)
        if not isinstance(layer, BatchNormAct2d) or isinstance(layer.act, nn.Identity):
            return x
        return self.graph.call_module(f"{node.target}.act", (x,))

    def _weight(self, name: str) -> fx.Node:
        if name not in self._attributes:
            self._attributes[name] = self.graph.get_attr(name)
        return self._attributes[name]

    def _layer(self, node: fx.Node) -> Any:
        return self._module.get_submodule(str(node.target))


@dataclass(frozen=True, slots=True)
class _Call:
    """A layer as `function(x, **tensors, **constants)`."""

    function: Callable[..., Tensor]
    tensors: tuple[str, ...]
    constants: Mapping[str, Any]


_TRANSPOSED = {
    nn.ConvTranspose1d: F.conv_transpose1d,
    nn.ConvTranspose2d: F.conv_transpose2d,
    nn.ConvTranspose3d: F.conv_transpose3d,
}


def _call(node: fx.Node, layer: Any) -> _Call | None:
    """None for a layer that has to stay as it is; a subclass may compute anything."""
    kind, affine = type(layer), ("weight", "bias")
    if not len(node.all_input_nodes) == len(node.args) == 1 or node.kwargs:
        return None
    if kind is nn.Linear:
        return _Call(F.linear, affine, {})
    if kind.__name__ in CONVOLUTIONS and layer.padding_mode == "zeros":
        return _Call(CONVOLUTIONS[kind.__name__], affine, {name: getattr(layer, name) for name in _GEOMETRY})
    if kind in _TRANSPOSED:
        names = ("stride", "padding", "output_padding", "groups", "dilation")
        return _Call(_TRANSPOSED[kind], affine, {name: getattr(layer, name) for name in names})
    if kind is nn.LayerNorm:
        return _Call(F.layer_norm, affine, {"normalized_shape": layer.normalized_shape, "eps": layer.eps})
    if kind is nn.GroupNorm:
        return _Call(F.group_norm, affine, {"num_groups": layer.num_groups, "eps": layer.eps})
    if kind in NORMS and layer.running_mean is not None:
        return _Call(F.batch_norm, _NORM_TENSORS, {"training": False, "eps": layer.eps})
    return None


def _tensors_of_calls(module: fx.GraphModule) -> list[str]:
    """The names of all tensors that plain calls read; what a layer holds that stays as it is cannot be among them."""
    found: dict[str, None] = {}
    left: set[str] = set()
    for node in module.graph.nodes:
        if node.op == "call_module":
            layer = module.get_submodule(str(node.target))
            if _call(node, layer) is None:
                left |= {f"{node.target}.{name}" for name in layer.state_dict()}
            else:
                found |= dict.fromkeys(_own_tensors(node, layer))
        elif node.op == "get_attr" and _attribute(module, str(node.target)).is_floating_point():
            found[str(node.target)] = None
    return [name for name in found if name not in left]


def _own_tensors(node: fx.Node, layer: nn.Module) -> list[str]:
    """The floating-point tensors of one layer, by full name."""
    tensors = dict(layer.named_parameters(recurse=False)) | dict(layer.named_buffers(recurse=False))
    return [f"{node.target}.{name}" for name, tensor in tensors.items() if tensor.is_floating_point()]


def _owned(layer: AdaptableLayer, unfolded: Mapping[str, Tensor]) -> list[str]:
    """The tensors that reach the graph through this layer's inputs."""
    if layer.norm is None:
        return list(layer.inputs)
    return [name for name in unfolded if name.rpartition(".")[0] in (layer.module, layer.norm.name)]


_WITH_ROWS = (LowRank, GroupedLowRank, Tucker)  # a row of B for each output, so that only B has to be scaled


def _scaled(delta: LowRank | GroupedLowRank | Tucker, gain: Tensor) -> Delta:
    """The delta of a convolution's weight with its rows multiplied by `gain`, [out]."""
    B = delta.B * by_row(gain, delta.B)  # float32, as the gain is
    if isinstance(delta, Tucker):
        return Tucker(delta.target, delta.A, delta.mid, B, delta.scale)
    return type(delta)(delta.target, delta.A, B, delta.scale)


def _attribute(module: nn.Module, name: str) -> Tensor:
    owner, _, own = name.rpartition(".")
    tensor: Tensor = getattr(module.get_submodule(owner), own)
    return tensor


def _detached(layer: nn.Module) -> nn.Module:
    """The layer in float32 with parameters of its own over the same memory: casting them leaves the backbone's alone.

    Not a copy of the bytes, where they are float32 already: a leaf may be hundreds of megabytes.
    """
    own: dict[int, Any] = {
        id(tensor): nn.Parameter(tensor.detach().float(), requires_grad=False) for tensor in layer.parameters()
    }
    own |= {id(tensor): _float32(tensor) for tensor in layer.buffers()}
    return copy.deepcopy(layer, own)


def _float32(tensor: Tensor) -> Tensor:
    return tensor.detach().float() if tensor.is_floating_point() else tensor
