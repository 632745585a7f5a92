"""Rewrite a traced graph so that it passes over its activations less often: fold BatchNorm, activate out of place.

In eval mode `BN(conv(x, W) + b)` is `conv(x, W * s) + (b - mean) * s + beta` with `s = gamma / sqrt(var + eps)`. The
folded weight is computed from the live tensors in every call, so it contains merged deltas and trained norms. That
costs one pass over the weights and saves two passes over the activations, forward and backward (Jacob et al. 2017,
arXiv 1712.05877, section 3.2).
In-place activations gain nothing while gradients are recorded, because autograd clones their input first.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import torch
from timm.layers import BatchNormAct2d
from timm.layers.conv2d_same import conv2d_same
from torch import Tensor, fx, nn
from torch.nn import functional as F

CONVOLUTIONS: dict[str, Callable[..., Tensor]] = {
    "Conv1d": F.conv1d,
    "Conv2d": F.conv2d,
    "Conv3d": F.conv3d,
    "Conv2dSame": conv2d_same,  # TensorFlow's padding, in timm's tf_ models
}
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, BatchNormAct2d)  # dropout does nothing in eval mode


def fold_batch_norms(module: fx.GraphModule, trained: AbstractSet[str] = frozenset()) -> fx.GraphModule:
    """The same function, with every pair of a convolution and an eval-mode BatchNorm computed as one convolution.

    A norm with one of the `trained` tensors is not folded: the gradient of its scale would need the gradient of a whole
    kernel, and for a depthwise convolution the gradients of kernel and bias are slower to compute. Tensors keep their
    names and are shared with `module`. Values agree up to rounding.
    """
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    pairs = {
        conv: norm
        for norm in module.graph.nodes
        if trained.isdisjoint((f"{norm.target}.weight", f"{norm.target}.bias"))
        and (conv := convolution_before(module, norm)) is not None
    }
    norms = {norm: conv for conv, norm in pairs.items()}
    for node in module.graph.nodes:
        if node in pairs:
            continue  # it is computed at the position of its norm
        if node in norms:
            copies[node] = _folded(module, graph, norms[node], node, copies)
        else:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    return fx.GraphModule(module, graph).eval()


def out_of_place(module: fx.GraphModule) -> fx.GraphModule:
    """The module with activations that write to a new tensor. Layers shared with other modules stay as they are."""
    for node in module.graph.nodes:
        if node.op == "call_module" and getattr(layer := module.get_submodule(str(node.target)), "inplace", False):
            layer = copy.copy(layer)
            layer.inplace = False  # type: ignore[assignment]  # nn.Module's attributes are typed as tensors
            module.set_submodule(str(node.target), layer)
    return module


def convolution_before(module: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """The convolution that feeds this BatchNorm and nothing else; None if there is no such convolution."""
    if node.op != "call_module" or not isinstance(node.args[0], fx.Node):
        return None
    norm, before = module.get_submodule(str(node.target)), node.args[0]
    if type(norm) not in NORMS or norm.running_mean is None or before.op != "call_module" or len(before.users) > 1:
        return None
    layer = module.get_submodule(str(before.target))
    supported = type(layer).__name__ in CONVOLUTIONS and layer.padding_mode == "zeros"
    return before if supported else None


def _folded(
    module: fx.GraphModule, graph: fx.Graph, conv: fx.Node, norm: fx.Node, copies: dict[fx.Node, fx.Node]
) -> fx.Node:
    layer: Any = module.get_submodule(str(conv.target))
    norm_layer: Any = module.get_submodule(str(norm.target))

    def tensor(node: fx.Node, owner: Any, name: str) -> fx.Node | None:
        return None if getattr(owner, name) is None else graph.get_attr(f"{node.target}.{name}")

    x = copies[conv.args[0]]  # type: ignore[index]  # convolution_before has checked that it is a node
    weight, bias = (tensor(conv, layer, name) for name in ("weight", "bias"))
    nodes: Any = [tensor(norm, norm_layer, name) for name in ("running_mean", "running_var", "weight", "bias")]
    mean, var, gamma, beta = nodes  # in place of tensors
    folded_norm = NormTensors(mean, var, gamma, beta, norm_layer.eps)
    geometry = (layer.stride, layer.padding, layer.dilation, layer.groups)
    arguments = (type(layer).__name__, x, weight, bias, folded_norm, geometry)
    folded = graph.call_function(folded_convolution, arguments)
    if isinstance(norm_layer, BatchNormAct2d):
        folded = graph.call_module(f"{norm.target}.act", (folded,))
    return folded


class NormTensors(NamedTuple):
    """The tensors of a BatchNorm, each [out]. torch.fx keeps named tuples in the arguments of a call."""

    mean: Tensor
    var: Tensor
    gamma: Tensor | None
    beta: Tensor | None
    eps: float


def folded_convolution(
    kind: str, x: Tensor, weight: Tensor, bias: Tensor | None, norm: NormTensors, geometry: tuple[Any, ...]
) -> Tensor:
    """`BN(conv(x, weight) + bias)` in eval mode, as one convolution.

    `kind` is a name in CONVOLUTIONS; `geometry` is (stride, padding, dilation, groups).
    """
    gain, shift = gain_and_shift(bias, *norm)
    y: Tensor = CONVOLUTIONS[kind](x, weight * by_row(gain, weight), shift, *geometry)
    return y


def gain_and_shift(
    bias: Tensor | None, mean: Tensor, var: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """The gain and shift, both [out], for which `BN(y + bias)` in eval mode is `gain * y + shift`."""
    s = torch.rsqrt(var + eps)
    s = s if gamma is None else gamma * s
    shift = -mean * s if bias is None else (bias - mean) * s
    return s, shift if beta is None else shift + beta


def by_row(gain: Tensor, weight: Tensor) -> Tensor:
    """Reshape `gain` [out] so that it scales the rows of a weight [out, ...]."""
    return gain.view(-1, *[1] * (weight.ndim - 1))
