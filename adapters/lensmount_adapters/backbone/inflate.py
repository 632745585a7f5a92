"""Turn a 2-D backbone into a volume backbone that computes, slice by slice, what the 2-D backbone does.

A volume [N, C, D, H, W] is D images. Each k x k kernel becomes the centre slice of a d x k x k kernel that is zero
elsewhere, so at first no slice depends on another. A delta on the new weight also fills the other slices. This is how
an adapter makes a frozen 2-D backbone look along the depth. Source: the seed "LoRA for convolutional networks". Unlike
in I3D (arXiv 1705.07750), a kernel is not repeated along the depth.

Depth is neither strided nor pooled before the head. At the layer of the 2-D network that turns maps into vectors (its
global pooling, or Flatten), the vectors of the slices are averaged. So a volume of any depth has one feature vector,
and a single slice has the feature vector of the 2-D network. `VolumeBackbone.slice_features` returns the vectors before
they are averaged.
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

SLICES = 16  # default depth that a volume is resampled to
CHECK_SIDE = 96  # pixels per side of the slices that compare the two networks
TOLERANCE = 1e-5  # relative to the largest feature; rounding stays below 1e-6


class VolumeBackbone(Backbone):
    """A volume backbone: `features` takes [N, 3, D, height, width] and returns [N, feature_dim].

    Its weights are those of Conv3d layers. Adapters are mounted on them as on any other backbone's.
    """

    preprocessing: VolumePreprocessing

    def slice_features(self, volumes: Tensor) -> Tensor:
        """Return the features of each slice, [N, D, feature_dim] in float32. `features` is their mean over D."""
        with torch.inference_mode(), _slices_separate(self.module):
            features: Tensor = self.module(volumes.to(self.device, self.dtype))
        return features.float().reshape(len(volumes), -1, self.feature_dim)

    def _probe(self) -> Tensor:
        """One slice: with 16 of them, loading ResNet10-T as a volume backbone took 1.5 s instead of 0.6 s."""
        return self.zeros(1)[:, :, :1]


def inflate(backbone: Backbone, depth: int | None = None, dtype: torch.dtype = torch.float32) -> VolumeBackbone:
    """Return a volume backbone that computes on each slice what `backbone` computes on an image.

    >>> volumes = inflate(load_backbone("resnet34", "random:0"))                # doctest: +SKIP
    >>> volumes.features(torch.zeros(1, 3, 16, 224, 224)).shape                 # doctest: +SKIP
    torch.Size([1, 512])

    `depth`: slices of every kernel that is larger than 1x1; None makes each as deep as its longer side. 1x1 kernels
    stay 1x1x1. The weights take `depth` times the memory and the time. `backbone` does not change, and nothing is
    shared with it. Raises BackboneError for kernels without a centre slice, for layers without a 3-D counterpart, and
    if the result does not compute the same (squeeze and excitation or attention, which mix all positions of an
    image).
    """
    if isinstance(backbone, VolumeBackbone):
        raise BackboneError(f"{backbone.name}: found a volume backbone, expected one for images")
    if backbone.changed():
        raise BackboneError(f"{backbone.name}: found an adapter on it, expected the base. Fix: unmount it first")
    if next(iter(backbone.tensors.values())).dtype is not torch.float32:
        raise BackboneError(
            f"{backbone.name}: found weights in {backbone.dtype}, expected float32. "
            "Fix: load it in float32 and pass the dtype to inflate"
        )
    if depth is not None and (depth < 1 or depth % 2 == 0):
        raise BackboneError(f"found depth {depth}, expected an odd number: an even kernel has no centre slice")
    module = copy.deepcopy(backbone.module)
    _replace(module, depth)
    _check(backbone, module)
    name = f"{backbone.name}-3d{depth or ''}"
    return VolumeBackbone(name, module, _rule(backbone.preprocessing), dtype)


def _rule(flat: InputRule) -> VolumePreprocessing:
    """Return a rule with the size, mean and standard deviation of the image rule for each slice."""
    return VolumePreprocessing(depth=SLICES, size=flat.size, mean=flat.mean, std=flat.std)


# Layers for volumes. Those defined here are leaves to a tracer, as timm's are, because they look at shapes. They use
# `x.shape[0]` instead of `len(x)`, which torch.jit.trace would record as a constant.


@register_notrace_module
class Conv3dSame(nn.Conv3d):
    """Pads height and width as TensorFlow does, and the depth with as many slices of zeros as the kernel reaches."""

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
    """GroupNorm of each slice separately: [N, C, D, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        return _unfolded(super().forward(_folded(x)), x.shape[0])


@register_notrace_module
class Slices(nn.Module):
    """A 2-D layer without weights on each slice: [N, C, D, H, W] to [N, C', D, H', W'].

    This is used because torch's own pooling of volumes lacks bfloat16 on CPU.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return _unfolded(self.layer(_folded(x)), x.shape[0])


@register_notrace_module
class DepthMean(Slices):
    """A 2-D layer from maps to vectors: [N, C, D, H, W] to the mean of the slices' vectors [N, F].

    While `separate` is set, it returns the vectors themselves, [N * D, F].
    """

    separate = False

    def forward(self, x: Tensor) -> Tensor:
        vectors: Tensor = self.layer(_folded(x))  # [N * D, F]
        return vectors if self.separate else vectors.reshape(x.shape[0], -1, *vectors.shape[1:]).mean(1)


def _folded(x: Tensor) -> Tensor:
    """[N, C, D, H, W] -> [N * D, C, H, W]."""
    return x.transpose(1, 2).flatten(0, 1)


def _unfolded(x: Tensor, count: int) -> Tensor:
    """[N * D, C, H, W] -> [N, C, D, H, W]."""
    return x.reshape(count, -1, *x.shape[1:]).transpose(1, 2)


@contextmanager
def _slices_separate(module: nn.Module) -> Iterator[None]:
    means = [layer for layer in module.modules() if isinstance(layer, DepthMean)]
    for mean in means:
        mean.separate = True
    try:
        yield
    finally:
        for mean in means:
            mean.separate = False


# The 3-D counterpart of each 2-D layer


def _replace(module: nn.Module, depth: int | None) -> None:
    """Replace every 2-D layer below `module` by its 3-D counterpart, in place. Names and order of tensors stay."""
    flat: list[str] = []  # layers that work on slices keep their own 2-D layers
    for path, layer in list(module.named_modules()):
        if path.startswith(tuple(flat)):
            continue
        layer_3d = _layer_3d(path, layer, depth)
        if layer_3d is not None:
            module.set_submodule(path, layer_3d.eval())
        if isinstance(layer_3d, Slices):
            flat.append(f"{path}.")


def _layer_3d(path: str, layer: Any, depth: int | None) -> nn.Module | None:
    """Return the 3-D counterpart, or None for layers that work on volumes: activations, linear layers, containers."""
    if type(layer) in _LAYERS_3D:
        return _LAYERS_3D[type(layer)](layer)
    if isinstance(layer, _SLICED):
        return Slices(layer)
    if type(layer) in _CONVOLUTIONS:
        return _convolution(path, layer, depth)
    if isinstance(layer, _UNSUPPORTED):
        raise BackboneError(
            f"{path}: found a {type(layer).__name__}, which has no counterpart for volumes. "
            "Fix: use a network of plain convolutions and BatchNorm, such as resnet34, vgg16 or tf_efficientnet_lite0"
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
        raise BackboneError(
            f"{path}: found padding mode {layer.padding_mode!r}, expected zeros, because slices would mix"
        )
    layer_3d: Any = _CONVOLUTIONS[type(layer)](
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
        layer_3d.output_padding = (0, *layer.output_padding)
    weight = layer.weight.new_zeros(*layer.weight.shape[:2], slices, *layer.kernel_size)
    weight[:, :, slices // 2] = layer.weight
    layer_3d.weight = nn.Parameter(weight, requires_grad=False)
    layer_3d.bias = layer.bias
    return layer_3d  # type: ignore[no-any-return]  # Any, to set its attributes


def _padding(padding: str | tuple[int, int], slices: int) -> str | tuple[int, ...]:
    if isinstance(padding, str):
        return padding if padding == "same" else (slices // 2, 0, 0)
    return (slices // 2, *padding)


def _batch_norm(layer: Any) -> nn.Module:
    kind = BatchNormAct3d if isinstance(layer, BatchNormAct2d) else nn.BatchNorm3d
    layer_3d: Any = kind(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
    layer_3d._parameters, layer_3d._buffers = layer._parameters, layer._buffers
    if isinstance(layer, BatchNormAct2d):
        layer_3d.drop, layer_3d.act = layer.drop, layer.act
    return layer_3d  # type: ignore[no-any-return]  # Any, to set its attributes


def _group_norm(layer: Any) -> nn.Module:
    layer_3d = SliceGroupNorm(layer.num_groups, layer.num_channels, layer.eps, layer.affine)
    layer_3d._parameters = layer._parameters
    return layer_3d


_LAYERS_3D: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
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
_UNSUPPORTED = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d)


def _check(backbone: Backbone, module: nn.Module) -> None:
    """Check on two volumes of three slices of noise that each slice gives what it gives as an image."""
    sides = backbone.preprocessing.size
    height, width = sides if backbone.fixed_size else (min(side, CHECK_SIDE) for side in sides)
    volumes = torch.randn(2, 3, 3, height, width, generator=torch.Generator().manual_seed(0)).to(backbone.device)
    expected = backbone.features(_folded(volumes))
    try:
        with torch.inference_mode(), _slices_separate(module):
            actual = module(volumes)
        same = actual.shape == expected.shape
        same = same and bool((actual - expected).abs().max() <= TOLERANCE * expected.abs().max())
        reason = f"its slices differ from images, {list(actual.shape)} and {list(expected.shape)}"
    except (RuntimeError, ValueError, TypeError, IndexError) as error:  # the network's own code, written for images
        same, reason = False, f"{type(error).__name__}: {str(error)[:200]}"
    if not same:
        raise BackboneError(
            f"{backbone.name}: found a network that does not treat slices like images ({reason}). "
            "Fix: use a network of plain convolutions and BatchNorm, such as resnet34, vgg16 or tf_efficientnet_lite0"
        )
