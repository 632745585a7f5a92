"""Turn a 2-D backbone into one of volumes that computes, slice by slice, what the 2-D one does.

A volume [N, C, D, H, W] is D pictures. Each k x k kernel becomes the centre slice of a d x k x k kernel that is zero
elsewhere, so at first no slice sees another; a delta on the new weight fills the other slices as well, and that is how
an adapter lets a frozen 2-D backbone look along the depth. Source: the seed "LoRA for convolutional networks"; other
than in I3D (arXiv 1705.07750) a kernel is not repeated along the depth.

Depth is neither strided nor pooled before the head. Where the 2-D network leaves maps for vectors (its global pooling,
or Flatten), the vectors of the slices are averaged: a volume of any depth has one feature vector, and that of a single
slice is the 2-D network's. `VolumeBackbone.slice_features` gives the vectors before they are averaged.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.layers import BatchNormAct2d, SelectAdaptivePool2d
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from timm.models._features_fx import register_notrace_module
from torch import Tensor, nn
from torch.nn import functional as F

from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import BackboneError
from lensmount_adapters.inputs.rules import InputRule, VolumePreprocessing

SLICES = 16  # that a volume is brought to, where nothing else is said
CHECK_SIDE = 96  # pixels of the slices that compare the two networks
TOLERANCE = 1e-5  # of the largest feature; rounding stays below 1e-6


class VolumeBackbone(Backbone):
    """A backbone of volumes: `features` takes [N, 3, D, height, width] and gives [N, feature_dim].

    Its weights are Conv3d's and adapters are mounted on them as on any other backbone's.
    """

    preprocessing: VolumePreprocessing

    def slice_features(self, volumes: Tensor) -> Tensor:
        """The features [N, D, feature_dim] of each slice, in float32; `features` is their mean over D."""
        with torch.inference_mode(), _slices_apart(self.module):
            found: Tensor = self.module(volumes.to(self.device, self.dtype))
        return found.float().reshape(len(volumes), -1, self.feature_dim)


def inflate(backbone: Backbone, depth: int | None = None, dtype: torch.dtype = torch.float32) -> VolumeBackbone:
    """The backbone of volumes that computes on each slice what `backbone` does on a picture.

    >>> volumes = inflate(load_backbone("resnet34", "random:0"))                # doctest: +SKIP
    >>> volumes.features(torch.zeros(1, 3, 16, 224, 224)).shape                 # doctest: +SKIP
    torch.Size([1, 512])

    `depth`: slices of every kernel that is larger than 1x1; None makes each as deep as its longer side. 1x1 kernels
    stay 1x1x1. The weights take `depth` times the memory and the time. `backbone` stays as it is and shares nothing.
    Raises BackboneError for kernels without a centre slice, for layers that have no twin in 3-D, and where the result
    does not compute the same (squeeze and excitation, attention: what mixes all places of a picture).
    """
    if isinstance(backbone, VolumeBackbone):
        raise BackboneError(f"{backbone.name}: found a backbone of volumes, expected one of pictures")
    if backbone.changed():
        raise BackboneError(f"{backbone.name}: found an adapter on it, expected the base. Fix: unmount it first")
    if next(iter(backbone.tensors.values())).dtype is not torch.float32:
        raise BackboneError(
            f"{backbone.name}: found weights in {backbone.dtype}, expected float32. "
            "Fix: load it in float32 and give inflate the dtype"
        )
    if depth is not None and (depth < 1 or depth % 2 == 0):
        raise BackboneError(f"found depth {depth}, expected an odd number: an even kernel has no centre slice")
    module = copy.deepcopy(backbone.module)
    _replace(module, depth)
    _check(backbone, module)
    name = f"{backbone.name}-3d{depth or ''}"
    return VolumeBackbone(name, module, _rule(backbone.preprocessing), dtype)


def _rule(flat: InputRule) -> VolumePreprocessing:
    """The size, mean and standard deviation of the pictures, for each slice."""
    return VolumePreprocessing(depth=SLICES, size=flat.size, mean=flat.mean, std=flat.std)


# Layers of volumes. Those of our own are leaves to a tracer, as timm's are: they look at shapes. `x.shape[0]` and not
# `len(x)`, which torch.jit.trace would take for a constant.


@register_notrace_module
class Conv3dSame(nn.Conv3d):
    """TensorFlow's padding of height and width, and as many slices of zeros as the kernel reaches."""

    def forward(self, x: Tensor) -> Tensor:
        padded = pad_same(x, self.kernel_size[1:], self.stride[1:], self.dilation[1:])
        return F.conv3d(
            padded, self.weight, self.bias, self.stride, (self.kernel_size[0] // 2, 0, 0), self.dilation, self.groups
        )


@register_notrace_module
class BatchNormAct3d(nn.BatchNorm3d):
    """BatchNorm, then the activation of timm's BatchNormAct2d."""

    drop: nn.Module
    act: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.drop(super().forward(x)))
        return y


@register_notrace_module
class SliceGroupNorm(nn.GroupNorm):
    """GroupNorm of each slice by itself: [N, C, D, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        return _unfolded(super().forward(_folded(x)), x.shape[0])


@register_notrace_module
class Slices(nn.Module):
    """A 2-D layer without weights on each slice: [N, C, D, H, W] to [N, C', D, H', W'].

    torch's own pooling of volumes lacks bfloat16 on CPU.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return _unfolded(self.layer(_folded(x)), x.shape[0])


@register_notrace_module
class DepthMean(Slices):
    """A 2-D layer from maps to vectors: [N, C, D, H, W] to the mean of the slices' vectors [N, F].

    While `apart`, to the vectors themselves, [N * D, F].
    """

    apart = False

    def forward(self, x: Tensor) -> Tensor:
        vectors: Tensor = self.layer(_folded(x))  # [N * D, F]
        return vectors if self.apart else vectors.reshape(x.shape[0], -1, *vectors.shape[1:]).mean(1)


def _folded(x: Tensor) -> Tensor:
    """[N, C, D, H, W] -> [N * D, C, H, W]."""
    return x.transpose(1, 2).flatten(0, 1)


def _unfolded(x: Tensor, count: int) -> Tensor:
    """[N * D, C, H, W] -> [N, C, D, H, W]."""
    return x.reshape(count, -1, *x.shape[1:]).transpose(1, 2)


@contextmanager
def _slices_apart(module: nn.Module) -> Iterator[None]:
    means = [layer for layer in module.modules() if isinstance(layer, DepthMean)]
    for mean in means:
        mean.apart = True
    try:
        yield
    finally:
        for mean in means:
            mean.apart = False


# Each 2-D layer's twin


def _replace(module: nn.Module, depth: int | None) -> None:
    """Every 2-D layer below `module` by its twin, in place; names and order of tensors stay."""
    flat: list[str] = []  # what works on slices keeps its own 2-D layers
    for path, layer in list(module.named_modules()):
        if path.startswith(tuple(flat)):
            continue
        twin = _twin(path, layer, depth)
        if twin is not None:
            module.set_submodule(path, twin.eval())
        if isinstance(twin, Slices):
            flat.append(f"{path}.")


def _twin(path: str, layer: Any, depth: int | None) -> nn.Module | None:
    """None for what works on volumes as it is: activations, linear layers, containers."""
    if type(layer) in _TWINS:
        return _TWINS[type(layer)](layer)
    if isinstance(layer, _SLICED):
        return Slices(layer)
    if type(layer) in _CONVOLUTIONS:
        return _convolution(path, layer, depth)
    if isinstance(layer, _WITHOUT_TWIN):
        raise BackboneError(
            f"{path}: found a {type(layer).__name__}, which has no twin for volumes. "
            "Fix: a network of plain convolutions and BatchNorm, such as resnet34, vgg16 or tf_efficientnet_lite0"
        )
    return None


def _convolution(path: str, layer: Any, depth: int | None) -> nn.Module:
    slices = 1 if max(layer.kernel_size) == 1 else (depth or max(layer.kernel_size))
    if slices % 2 == 0:
        raise BackboneError(
            f"{path}: found a kernel of {' x '.join(map(str, layer.kernel_size))}, expected odd sides: an even kernel "
            "has no centre slice. Fix: give inflate an odd depth"
        )
    if layer.padding_mode != "zeros":
        raise BackboneError(f"{path}: found padding mode {layer.padding_mode!r}, expected zeros: slices would mix")
    twin: Any = _CONVOLUTIONS[type(layer)](
        layer.in_channels,
        layer.out_channels,
        (slices, *layer.kernel_size),
        stride=(1, *layer.stride),
        padding=_padding(layer.padding, slices),
        dilation=(1, *layer.dilation),
        groups=layer.groups,
        bias=layer.bias is not None,
        device="meta",
    )
    if isinstance(layer, nn.ConvTranspose2d):
        twin.output_padding = (0, *layer.output_padding)
    weight = layer.weight.new_zeros(*layer.weight.shape[:2], slices, *layer.kernel_size)
    weight[:, :, slices // 2] = layer.weight
    twin.weight = nn.Parameter(weight, requires_grad=False)
    twin.bias = layer.bias
    return twin  # type: ignore[no-any-return]  # Any for its attributes' sake


def _padding(padding: str | tuple[int, int], slices: int) -> str | tuple[int, ...]:
    if isinstance(padding, str):
        return padding if padding == "same" else (slices // 2, 0, 0)
    return (slices // 2, *padding)


def _batch_norm(layer: Any) -> nn.Module:
    kind = BatchNormAct3d if isinstance(layer, BatchNormAct2d) else nn.BatchNorm3d
    twin: Any = kind(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
    twin._parameters, twin._buffers = layer._parameters, layer._buffers
    if isinstance(layer, BatchNormAct2d):
        twin.drop, twin.act = layer.drop, layer.act
    return twin  # type: ignore[no-any-return]  # Any for its attributes' sake


def _group_norm(layer: Any) -> nn.Module:
    twin = SliceGroupNorm(layer.num_groups, layer.num_channels, layer.eps, layer.affine)
    twin._parameters = layer._parameters
    return twin


_TWINS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    nn.BatchNorm2d: _batch_norm,
    BatchNormAct2d: _batch_norm,
    nn.GroupNorm: _group_norm,
    nn.Flatten: DepthMean,
    SelectAdaptivePool2d: DepthMean,
}
_CONVOLUTIONS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: nn.Conv3d,
    Conv2dSame: Conv3dSame,
    nn.ConvTranspose2d: nn.ConvTranspose3d,
}
_SLICED = (
    nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d, nn.Dropout2d, nn.Upsample,
)  # fmt: skip
_WITHOUT_TWIN = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d)


def _check(backbone: Backbone, module: nn.Module) -> None:
    """Two volumes of three slices of noise: each slice must give what it gives as a picture."""
    sides = backbone.preprocessing.size
    height, width = sides if backbone.fixed_size else (min(side, CHECK_SIDE) for side in sides)
    volumes = torch.randn(2, 3, 3, height, width, generator=torch.Generator().manual_seed(0)).to(backbone.device)
    wanted = backbone.features(_folded(volumes))
    try:
        with torch.inference_mode(), _slices_apart(module):
            found = module(volumes)
        same = found.shape == wanted.shape and bool((found - wanted).abs().max() <= TOLERANCE * wanted.abs().max())
        reason = f"its slices differ from the pictures, {list(found.shape)} and {list(wanted.shape)}"
    except (RuntimeError, ValueError, TypeError, IndexError) as error:  # the network's own code, written for pictures
        same, reason = False, f"{type(error).__name__}: {str(error)[:200]}"
    if not same:
        raise BackboneError(
            f"{backbone.name}: found a network that treats volumes otherwise than pictures ({reason}). "
            "Fix: a network of plain convolutions and BatchNorm, such as resnet34, vgg16 or tf_efficientnet_lite0"
        )
