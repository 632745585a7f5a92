"""Rewrite a traced module so that each layer is a plain call such as `F.conv2d(x, weight=..., bias=..., stride=...)`.

A traced module calls its layers as modules, which own their weights. Here each weight becomes a node of the graph, and
an eval-mode BatchNorm after a convolution is folded into it (fold.py has the formula). functional.py shows one layer
before and after.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from timm.layers import BatchNormAct2d
from torch import Tensor, fx, nn
from torch.nn import functional as F

from lensmount_adapters.backbone.target import Layer, Target
from lensmount_adapters.graph.fold import CONVOLUTIONS, NORMS, by_row, convolution_before, gain_and_shift

NORM_TENSORS = ("running_mean", "running_var", "weight", "bias")
_GEOMETRY = ("stride", "padding", "dilation", "groups")
_NO_OPERATIONS = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)  # in eval mode


@dataclass(frozen=True, slots=True, eq=False)
class FoldedNorm:
    """A BatchNorm that was folded into a convolution's weight and bias; `gain` is `gamma / sqrt(var + eps)`, [out]."""

    name: str
    eps: float
    gain: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class AdaptableLayer:
    """A layer whose tensors an adapter may change, and the graph nodes that compute it.

    `inputs` are the names of its weights among the graph's inputs. `nodes` are the names of the graph nodes that read
    them: plain calls such as `F.conv2d(x, weight=..., bias=..., **geometry)`. `norm` is the BatchNorm folded into it.
    """

    module: str
    layer: Layer
    inputs: tuple[str, ...]
    nodes: tuple[str, ...]
    geometry: Mapping[str, Any]
    norm: FoldedNorm | None = None


class PlainCalls:
    """A traced module whose layers are plain calls in `graph`; each weight is a get_attr node with the weight's name.

    `values` are the weights by name, folded if a norm was folded into them; `unfolded` are these weights and the norm's
    tensors before folding. A layer with a tensor that is not in `weights` is not rewritten. `images` is the graph's
    first input.
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
            elif node not in pairs.values():  # a folded convolution is computed at the position of its norm
                copies[node] = self._copy(node, copies)
        self.images: fx.Node = copies[next(iter(module.graph.nodes))]
        self.graph.lint()

    def layer(
        self, module: str, inputs: Sequence[str], readers: Iterable[fx.Node], targets: Mapping[str, Target]
    ) -> AdaptableLayer:
        """Describe one layer, given the names of its weights and the nodes of the graph that read them."""
        kind = next(target.layer for name, target in targets.items() if name.rpartition(".")[0] == module)
        geometry = {name: value for node in readers for name, value in node.kwargs.items() if name in _GEOMETRY}
        nodes = tuple(node.name for node in readers)
        return AdaptableLayer(module, kind, tuple(inputs), nodes, geometry, self._norms.get(module))

    def assembled(self) -> fx.GraphModule:
        """The graph as a module. Unchanged tensors share their memory with the traced module."""
        root: dict[str, Any] = {}
        for node in self.graph.nodes:
            name = str(node.target)
            if node.op == "call_module":
                root[name] = _detached(self._module.get_submodule(name))
            elif node.op == "get_attr":
                root[name] = self.values[name] if name in self.values else _float32(_attribute(self._module, name))
        return fx.GraphModule(root, self.graph).eval()

    def _pairs(self) -> dict[fx.Node, fx.Node]:
        """Each norm that can be folded, with its convolution. A layer that is used twice is not folded."""
        nodes = [node for node in self._module.graph.nodes if node.op == "call_module"]
        uses = Counter(node.target for node in nodes)
        pairs = {norm: conv for norm in nodes if (conv := convolution_before(self._module, norm)) is not None}
        return {
            norm: conv
            for norm, conv in pairs.items()
            if uses[norm.target] == uses[conv.target] == 1 and self._call(norm) and self._call(conv)
        }

    def _copy(self, node: fx.Node, copies: Mapping[fx.Node, Any]) -> Any:
        inputs = [copies[before] for before in node.all_input_nodes]
        if node.op == "placeholder" and node.args:
            return node.args[0]  # an argument that no caller passes has its default value
        if node.op == "call_function" and inputs and not any(isinstance(value, fx.Node) for value in inputs):
            return node.target(*fx.map_arg(node.args, copies.__getitem__))  # type: ignore[operator]  # it checks such a value
        if node.op == "get_attr" and node.target in self.values:
            return self._weight(str(node.target))
        if node.op == "call_module" and isinstance(self._layer(node), _NO_OPERATIONS):
            return inputs[0]
        if node.op == "call_module" and (call := self._call(node)):
            return self._activated(node, self._write(node, call, inputs[0]))
        return self.graph.node_copy(node, copies.__getitem__)

    def _fold(self, conv: fx.Node, norm: fx.Node, copies: Mapping[fx.Node, Any]) -> fx.Node:
        def value(node: fx.Node, name: str) -> Any:
            return self.values.get(f"{node.target}.{name}")

        mean, var, gamma, beta = (value(norm, name) for name in NORM_TENSORS)
        weight, bias, eps = value(conv, "weight"), value(conv, "bias"), self._layer(norm).eps
        gain, shift = gain_and_shift(bias, mean, var, gamma, beta, eps)
        for node in (conv, norm):
            self.unfolded |= {name: self.values.pop(name) for name in _layer_tensors(node, self._layer(node))}
        self.values[f"{conv.target}.weight"] = weight * by_row(gain, weight)
        self.values[f"{conv.target}.bias"] = shift
        self._norms[str(conv.target)] = FoldedNorm(str(norm.target), eps, gain)
        call = _plain_call(conv, self._layer(conv))
        assert call is not None  # otherwise it would not be in a pair
        return self._activated(norm, self._write(conv, call, copies[conv.all_input_nodes[0]]))

    def _call(self, node: fx.Node) -> _PlainCall | None:
        """The node as a plain call; None if a tensor of its layer is not in `values`."""
        layer = self._layer(node)
        return _plain_call(node, layer) if all(name in self.values for name in _layer_tensors(node, layer)) else None

    def _write(self, node: fx.Node, call: _PlainCall, x: fx.Node) -> fx.Node:
        names = {name: f"{node.target}.{name}" for name in call.tensors}
        weights = {name: self._weight(full) if full in self.values else None for name, full in names.items()}
        return self.graph.call_function(call.function, (x,), {**weights, **call.constants})

    def _activated(self, node: fx.Node, x: fx.Node) -> fx.Node:
        """Add the activation that timm's norm layers contain."""
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
class _PlainCall:
    """A layer as `function(x, **tensors, **constants)`."""

    function: Callable[..., Tensor]
    tensors: tuple[str, ...]
    constants: Mapping[str, Any]


_TRANSPOSED = {
    nn.ConvTranspose1d: F.conv_transpose1d,
    nn.ConvTranspose2d: F.conv_transpose2d,
    nn.ConvTranspose3d: F.conv_transpose3d,
}


def _plain_call(node: fx.Node, layer: Any) -> _PlainCall | None:
    """None for a layer that cannot be rewritten, such as a subclass, which may compute anything."""
    kind, affine = type(layer), ("weight", "bias")
    if not len(node.all_input_nodes) == len(node.args) == 1 or node.kwargs:
        return None
    if kind is nn.Linear:
        return _PlainCall(F.linear, affine, {})
    if kind.__name__ in CONVOLUTIONS and layer.padding_mode == "zeros":
        return _PlainCall(CONVOLUTIONS[kind.__name__], affine, {name: getattr(layer, name) for name in _GEOMETRY})
    if kind in _TRANSPOSED:
        names = ("stride", "padding", "output_padding", "groups", "dilation")
        return _PlainCall(_TRANSPOSED[kind], affine, {name: getattr(layer, name) for name in names})
    if kind is nn.LayerNorm:
        return _PlainCall(F.layer_norm, affine, {"normalized_shape": layer.normalized_shape, "eps": layer.eps})
    if kind is nn.RMSNorm:
        return _PlainCall(F.rms_norm, ("weight",), {"normalized_shape": layer.normalized_shape, "eps": layer.eps})
    if kind is nn.Embedding and layer.max_norm is None:
        return _PlainCall(F.embedding, ("weight",), {})
    if kind is nn.GroupNorm:
        return _PlainCall(F.group_norm, affine, {"num_groups": layer.num_groups, "eps": layer.eps})
    if kind in NORMS and layer.running_mean is not None:
        return _PlainCall(F.batch_norm, NORM_TENSORS, {"training": False, "eps": layer.eps})
    return None


def tensors_of_calls(module: fx.GraphModule) -> dict[str, Tensor]:
    """All tensors of the layers that can become plain calls, by name.

    A tensor that a layer which cannot be rewritten also uses is left out.
    """
    tensors: dict[str, Tensor] = {}
    excluded: set[str] = set()
    for node in module.graph.nodes:
        if node.op == "call_module":
            layer = module.get_submodule(str(node.target))
            if _plain_call(node, layer) is None:
                excluded |= {f"{node.target}.{name}" for name in layer.state_dict()}
            else:
                tensors |= {name: _attribute(module, name) for name in _layer_tensors(node, layer)}
        elif node.op == "get_attr" and (tensor := _attribute(module, str(node.target))).is_floating_point():
            tensors[str(node.target)] = tensor
    return {name: tensor for name, tensor in tensors.items() if name not in excluded}


def _layer_tensors(node: fx.Node, layer: nn.Module) -> list[str]:
    """The full names of the floating-point tensors of one layer."""
    tensors = dict(layer.named_parameters(recurse=False)) | dict(layer.named_buffers(recurse=False))
    return [f"{node.target}.{name}" for name, tensor in tensors.items() if tensor.is_floating_point()]


def _attribute(module: nn.Module, name: str) -> Tensor:
    owner, _, last = name.rpartition(".")
    tensor: Tensor = getattr(module.get_submodule(owner), last)
    return tensor


def _detached(layer: nn.Module) -> nn.Module:
    """The layer in float32 with new parameters over the same memory: casting them does not change the backbone's.

    Float32 bytes are shared and not copied: one such layer may have hundreds of megabytes.
    """
    replaced: dict[int, Any] = {
        id(tensor): nn.Parameter(tensor.detach().float(), requires_grad=False) for tensor in layer.parameters()
    }
    replaced |= {id(tensor): _float32(tensor) for tensor in layer.buffers()}
    return copy.deepcopy(layer, replaced)


def _float32(tensor: Tensor) -> Tensor:
    return tensor.detach().float() if tensor.is_floating_point() else tensor
