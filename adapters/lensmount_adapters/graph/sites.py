"""Where a traced branch computes the layers that a mixed batch may change, and how: what runners/mixed.py rewrites."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx
from torch.nn import functional as F

from lensmount_adapters.graph.fold import CONVOLUTIONS
from lensmount_adapters.graph.functional import AdaptableLayer, FunctionalBranch

_TENSORS = ("weight", "bias", "running_mean", "running_var")
_ARGUMENTS: dict[Callable[..., Tensor], tuple[str, ...]] = {
    F.linear: ("input", "weight", "bias"),
    F.layer_norm: ("input", "normalized_shape", "weight", "bias", "eps"),
    F.group_norm: ("input", "num_groups", "weight", "bias", "eps"),
    F.batch_norm: ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    **dict.fromkeys(CONVOLUTIONS.values(), ("input", "weight", "bias", "stride", "padding", "dilation", "groups")),
}
_KINDS = {function: kind for kind, function in CONVOLUTIONS.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A node of the branch that computes a layer: `function(x, **arguments)`, tensors among them as nodes."""

    node: fx.Node
    function: Callable[..., Tensor]
    x: fx.Node
    arguments: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """Of a convolution, its name in CONVOLUTIONS."""
        return _KINDS[self.function]

    @property
    def geometry(self) -> dict[str, Any]:
        return {name: value for name, value in self.arguments.items() if name not in _TENSORS}

    def stride_of_one(self, weight: Tensor) -> tuple[int, ...] | None:
        """The stride of a convolution with a kernel of one and no padding; None for any other."""
        stride, padding = self.arguments.get("stride", 1), self.arguments.get("padding", 0)
        # TensorFlow's padding of a kernel of one is none, and so is "same"
        unpadded = self.kind == "Conv2dSame" or isinstance(padding, str) or not any(_each(padding, weight))
        return _each(stride, weight) if weight[0, 0].numel() == 1 and unpadded else None

    @property
    def dim(self) -> int:
        """Where the channels are."""
        return -1 if self.function in (F.linear, F.layer_norm) else 1


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A layer that can be mixed, with all of its calls."""

    layer: AdaptableLayer
    calls: tuple[Call, ...]

    @property
    def groups(self) -> int:
        return int(self.calls[0].arguments.get("groups", 1))

    def norm_tensors(self, values: Mapping[str, Tensor]) -> tuple[Any, ...]:
        """Of a BatchNorm that stands alone: mean, variance, gamma, beta and eps."""
        names = ("running_mean", "running_var", "weight", "bias")
        tensors = (values.get(f"{self.layer.module}.{name}") for name in names)
        return *tensors, self.calls[0].arguments.get("eps", 1e-5)


def owners(parametric: FunctionalBranch) -> dict[str, str]:
    """In which layer's arithmetic a module's tensors are: its own, or the convolution's that it is folded into."""
    folded = {layer.norm.name: module for module, layer in parametric.layers.items() if layer.norm is not None}
    return {module: module for module in parametric.layers} | folded


def sites_of(parametric: FunctionalBranch, modules: Collection[str]) -> dict[str, Site] | None:
    """These layers by name; None where one of them cannot be mixed."""
    nodes = {node.name: node for node in parametric.module.graph.nodes}
    images, *weights = (node for node in nodes.values() if node.op == "placeholder")
    names = dict(zip(weights, parametric.inputs, strict=True))
    samples = _depending_on(images)
    found: dict[str, Site] = {}
    for module in modules:
        layer = parametric.layers.get(module)
        calls = [] if layer is None else [_call(nodes[name], module, names, samples) for name in layer.nodes]
        known = tuple(call for call in calls if call is not None)
        if layer is None or not known or len(known) < len(calls):
            return None
        found[module] = Site(layer, known)
    return found


def _call(node: fx.Node, module: str, names: Mapping[fx.Node, str], samples: Collection[fx.Node]) -> Call | None:
    """None where the node computes something else, or takes the layer's tensors in another way."""
    function: Any = node.target
    if node.op != "call_function" or function not in _ARGUMENTS:
        return None
    arguments = dict(zip(_ARGUMENTS[function], node.args, strict=False)) | node.kwargs
    x: Any = arguments.pop("input")
    tensors = {name: names.get(value) for name, value in arguments.items() if isinstance(value, fx.Node)}
    own = all(found == f"{module}.{name}" for name, found in tensors.items())
    return Call(node, function, x, arguments) if own and x in samples else None


def _depending_on(start: fx.Node) -> set[fx.Node]:
    found, left = {start}, [start]
    while left:
        new = [user for user in left.pop().users if user not in found]
        found.update(new)
        left += new
    return found


def _each(value: int | Sequence[int], weight: Tensor) -> tuple[int, ...]:
    """One number for each dimension of the kernel."""
    return (value,) * (weight.ndim - 2) if isinstance(value, int) else tuple(value)
