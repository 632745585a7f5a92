"""The graph nodes that compute the layers which a mixed batch may change. runners/mixed.py rewrites them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx
from torch.nn import functional as F

from lensmount_adapters.graph.fold import CONVOLUTIONS
from lensmount_adapters.graph.functional import FunctionalBranch
from lensmount_adapters.graph.plain_calls import AdaptableLayer

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
    """A node of the branch that computes a layer as `function(x, **arguments)`; tensor arguments are nodes too."""

    node: fx.Node
    function: Callable[..., Tensor]
    x: fx.Node
    arguments: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """The name of a convolution in CONVOLUTIONS."""
        return _KINDS[self.function]

    @property
    def geometry(self) -> dict[str, Any]:
        return {name: value for name, value in self.arguments.items() if name not in _TENSORS}

    def stride_of_one(self, weight: Tensor) -> tuple[int, ...] | None:
        """The stride of a convolution if its kernel has one position and it has no padding; otherwise None."""
        stride, padding = self.arguments.get("stride", 1), self.arguments.get("padding", 0)
        # for a kernel of one position, TensorFlow's padding and "same" both add nothing
        unpadded = self.kind == "Conv2dSame" or isinstance(padding, str) or not any(_each(padding, weight))
        return _each(stride, weight) if weight[0, 0].numel() == 1 and unpadded else None

    @property
    def dim(self) -> int:
        """The dimension of the channels."""
        return -1 if self.function in (F.linear, F.layer_norm) else 1


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A layer that a mixed batch can change, with all of its calls."""

    layer: AdaptableLayer
    calls: tuple[Call, ...]

    @property
    def groups(self) -> int:
        return int(self.calls[0].arguments.get("groups", 1))

    def norm_tensors(self, values: Mapping[str, Tensor]) -> tuple[Any, ...]:
        """Mean, variance, gamma, beta and eps of a BatchNorm that was not folded."""
        names = ("running_mean", "running_var", "weight", "bias")
        tensors = (values.get(f"{self.layer.module}.{name}") for name in names)
        return *tensors, self.calls[0].arguments.get("eps", 1e-5)


def owners(branch: FunctionalBranch) -> dict[str, str]:
    """Map each module to the layer that computes with its tensors: itself, or the convolution it is folded into."""
    folded = {layer.norm.name: module for module, layer in branch.layers.items() if layer.norm is not None}
    return {module: module for module in branch.layers} | folded


def sites_of(branch: FunctionalBranch, modules: Collection[str]) -> dict[str, Site] | None:
    """The sites of these layers, by name; None if a mixed batch cannot change one of them."""
    nodes = {node.name: node for node in branch.module.graph.nodes}
    images, *weights = (node for node in nodes.values() if node.op == "placeholder")
    names = dict(zip(weights, branch.inputs, strict=True))
    samples = _depending_on(images)
    sites: dict[str, Site] = {}
    for module in modules:
        layer = branch.layers.get(module)
        calls = [] if layer is None else [_call(nodes[name], module, names, samples) for name in layer.nodes]
        known = tuple(call for call in calls if call is not None)
        if layer is None or not known or len(known) < len(calls):
            return None
        sites[module] = Site(layer, known)
    return sites


def _call(node: fx.Node, module: str, names: Mapping[fx.Node, str], samples: Collection[fx.Node]) -> Call | None:
    """The node as a call; None if it computes something else or uses the layer's tensors in another way."""
    function: Any = node.target
    if node.op != "call_function" or function not in _ARGUMENTS:
        return None
    arguments = dict(zip(_ARGUMENTS[function], node.args, strict=False)) | node.kwargs
    x: Any = arguments.pop("input")
    tensors = {name: names.get(value) for name, value in arguments.items() if isinstance(value, fx.Node)}
    expected = all(tensor == f"{module}.{name}" for name, tensor in tensors.items())
    return Call(node, function, x, arguments) if expected and x in samples else None


def _depending_on(start: fx.Node) -> set[fx.Node]:
    depending, queue = {start}, [start]
    while queue:
        new = [user for user in queue.pop().users if user not in depending]
        depending.update(new)
        queue += new
    return depending


def _each(value: int | Sequence[int], weight: Tensor) -> tuple[int, ...]:
    """One number per dimension of the kernel."""
    return (value,) * (weight.ndim - 2) if isinstance(value, int) else tuple(value)
