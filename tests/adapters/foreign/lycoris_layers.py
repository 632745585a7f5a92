"""Single layers with a module of LyCORIS on them, every factor random, and what LyCORIS' live layer computes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lensmount_adapters.foreign.lycoris import method_of
from lensmount_adapters.formulas.module import ForeignModule
from lensmount_adapters.formulas.parts import merged

LAYERS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(12, 8), (2, 5, 12)),
    "square linear": (lambda: nn.Linear(12, 12, bias=False), (2, 5, 12)),
    "conv1d": (lambda: nn.Conv1d(6, 8, 3), (2, 6, 11)),
    "conv2d": (lambda: nn.Conv2d(6, 8, (3, 2), stride=2, padding=1), (2, 6, 9, 9)),
    "conv2d wide": (lambda: nn.Conv2d(16, 16, 3), (1, 16, 5, 5)),
    "conv2d 1x1": (lambda: nn.Conv2d(6, 8, 1, bias=False), (2, 6, 5, 5)),
    "conv2d groups": (lambda: nn.Conv2d(6, 8, 3, groups=2), (2, 6, 9, 9)),
    "conv2d depthwise": (lambda: nn.Conv2d(6, 6, 3, groups=6), (2, 6, 9, 9)),
    "conv2d dilated": (lambda: nn.Conv2d(6, 8, 3, dilation=2), (2, 6, 9, 9)),
    "conv3d": (lambda: nn.Conv3d(4, 6, 3), (1, 4, 5, 5, 5)),
    "layer norm": (lambda: nn.LayerNorm(12), (2, 5, 12)),
    "group norm": (lambda: nn.GroupNorm(2, 6), (2, 6, 4, 4)),
}
UNGROUPED = [name for name in LAYERS if "norm" not in name and "groups" not in name and "depthwise" not in name]
GROUPED = [name for name in LAYERS if "norm" not in name]


def trained(kind: type, name: str, **options: Any) -> tuple[Any, Any, Tensor]:
    """A layer, a module of LyCORIS that is not yet applied to it, and inputs. No parameter of the module is zero."""
    torch.manual_seed(len(name))
    build, shape = LAYERS[name]
    layer = build().eval()
    with torch.no_grad():
        for tensor in layer.parameters():
            tensor.normal_(std=0.5)
    module = kind("lycoris_layer", layer, **options).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return layer, module, torch.randn(shape)


def stored(module: nn.Module) -> dict[str, Tensor]:
    """What the module writes into its file."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def foreign(layer: Any, parts: Mapping[str, Tensor]) -> ForeignModule:
    """The parts, with the layer's own weights."""
    bias = getattr(layer, "bias", None)
    return ForeignModule(
        "layer",
        parts,
        layer.weight.detach().double(),
        None if bias is None else bias.detach().double(),
        int(getattr(layer, "groups", 1)),
    )


def with_deltas(layer: Any, parts: Mapping[str, Tensor]) -> Any:
    """A copy of the layer with the weights that the parts ask for."""
    module = foreign(layer, parts)
    deltas = method_of(module).read(module)
    changed = copy.deepcopy(layer)
    with torch.no_grad():
        changed.weight.copy_(merged(deltas, module.weight))
        if "bias.delta" in deltas and module.bias is not None:
            changed.bias.copy_(module.bias + deltas["bias.delta"])
    return changed


def difference(kind: type, name: str, **options: Any) -> float:
    """Relative error between the layer with imported weights and LyCORIS' live layer, in float32."""
    layer, module, x = trained(kind, name, **options)
    base = copy.deepcopy(layer)
    module.apply_to()
    ours = with_deltas(base, stored(module))
    with torch.no_grad():
        base, theirs, found = base(x), layer(x), ours(x)
    assert (theirs - base).norm() > 1e-3 * base.norm()  # the module does change the output
    return float((found - theirs).norm() / theirs.norm())
