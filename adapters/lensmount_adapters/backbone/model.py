"""The resident backbone: a frozen feature extractor, its fingerprint, and pristine copies of what adapters change."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from types import MappingProxyType

import timm
import torch
from timm.layers import RmsNorm, RmsNorm2d
from torch import Tensor, nn

from lensmount_adapters.backbone import weights as weight_sources
from lensmount_adapters.backbone.fingerprint import (
    BackboneRef,
    differing,
    fingerprint_of,
    fingerprint_of_tensors,
    float_tensors,
    nothing,
    resident_digest,
)
from lensmount_adapters.backbone.names import architecture_of
from lensmount_adapters.backbone.pristine import Clones, Pristine, Unwritten
from lensmount_adapters.backbone.target import Layer, Target
from lensmount_adapters.errors import BackboneError, IntegrityError
from lensmount_adapters.inputs.rules import InputRule


class Backbone:
    """One frozen feature extractor on one device.

    >>> backbone = load_backbone("tf_efficientnet_lite0")          # doctest: +SKIP
    >>> backbone.features(torch.zeros(1, 3, 224, 224)).shape       # doctest: +SKIP
    torch.Size([1, 1280])

    `tensors` are the live weights; the swapper writes into them in place. `base(names)` returns the values to restore,
    and `pristine` is the source of these values (clones in memory, unless another source is set). A `dense` backbone
    returns maps of features [N, feature_dim, height, width]. The sides of its input are multiples of `size_step`.
    """

    def __init__(self, name: str, module: nn.Module, preprocessing: InputRule, dtype: torch.dtype) -> None:
        self.name = name
        self.preprocessing = preprocessing
        self.fixed_size = bool(weight_sources.config_of(module).get("fixed_input_size", False))
        self.size_step = int(weight_sources.config_of(module).get("size_step", 1))
        self.fingerprint = fingerprint_of(module)
        self.module = module.to(dtype=dtype).eval().requires_grad_(False)
        self.compute: Callable[[Tensor], Tensor] = self.module  # or graphs of it, which read the same weights
        self.dtype = dtype
        self.tensors: Mapping[str, Tensor] = MappingProxyType(float_tensors(self.module))
        self.targets: Mapping[str, Target] = MappingProxyType(_targets(self.module))
        self._digests = {name: resident_digest(tensor) for name, tensor in self.tensors.items()}
        self.pristine: Pristine
        self.keep_clones()
        self._refusals: dict[tuple[int, ...], str | None] = {}
        self.feature_dim, self.dense = self._count_features()

    @property
    def ref(self) -> BackboneRef:
        return BackboneRef(name=self.name, fingerprint=self.fingerprint)

    def fits(self, made_for: BackboneRef) -> bool:
        """Return True if an adapter for `made_for` computes here what it was trained to.

        The fingerprint decides, whatever the name. Only the name of another timm architecture does not fit: some of
        them share their tensors and compute otherwise, such as a ViT with GELU and one with QuickGELU.
        """
        if made_for.fingerprint != self.fingerprint or made_for.name == self.name:
            return made_for.fingerprint == self.fingerprint
        other = architecture_of(made_for.name)
        return other == architecture_of(self.name) or not timm.is_model(other)

    @cached_property
    def rounded_fingerprints(self) -> Mapping[str, str]:
        """The fingerprints of these weights rounded to float16 and bfloat16, by the name of the dtype.

        They recognise the same weights that were stored in another precision. Empty unless the weights are resident in
        float32.
        """
        if self.dtype is not torch.float32:
            return {}
        originals = self.originals()
        return {
            str(dtype).removeprefix("torch."): fingerprint_of_tensors(
                {name: tensor.to(dtype).to(tensor.dtype) for name, tensor in originals.items()}
            )
            for dtype in (torch.float16, torch.bfloat16)
        }

    @property
    def device(self) -> torch.device:
        return next(iter(self.tensors.values())).device

    def features(self, images: Tensor) -> Tensor:
        """Compute float32 features [N, feature_dim], or maps if `dense`, of preprocessed images [N, 3, height, width].

        A volume backbone takes volumes [N, 3, depth, height, width].
        """
        with torch.inference_mode():
            features: Tensor = self.compute(images.to(self.device, self.dtype))
            return features.float()

    def refuses(self, shape: tuple[int, ...]) -> str | None:
        """Return why an input of this shape, [3, ...], cannot be computed, or None. Only shapes are computed."""
        if shape not in self._refusals:
            self._refusals[shape] = _refusal(self.module, shape, self.dtype)
        return self._refusals[shape]

    def base(self, names: Iterable[str]) -> Mapping[str, Tensor]:
        """Return the original values of the named tensors, whatever is mounted. Ask before the first write.

        Raises IntegrityError if a tensor differs from its value at start. Safe from any thread.
        """
        return self.pristine.values(names)

    def originals(self) -> dict[str, Tensor]:
        """Copy the original values of all tensors, whatever is mounted. Unlike with `base`, no clone is kept.

        Raises IntegrityError as `base` does. Safe from any thread: each copy is compared with its digest.
        """
        copies = {name: tensor.detach().clone() for name, tensor in self.tensors.items()}
        written = [name for name, copied in copies.items() if resident_digest(copied) != self._digests[name]]
        return copies | {name: base.clone() for name, base in self.base(written).items()}

    def keep_clones(self) -> None:
        """Make `base` return clones, which are made on first access. The default; mounting in place needs it."""
        self.pristine = Clones(self.tensors, self._check_unchanged)

    def keep_nothing(self) -> None:
        """Make `base` return the live tensors, for callers that never write to them (`SegmentRunner`)."""
        self.pristine = Unwritten(self.tensors, self._check_unchanged)

    def twin(self) -> Backbone:
        """Return an independent copy. This backbone must be at its base, with no adapter mounted."""
        return type(self)(self.name, copy.deepcopy(self.module), self.preprocessing, self.dtype)

    def changed(self, between: Callable[[], None] = nothing) -> list[str]:
        """Return the live tensors and clones whose digest differs from the start: none while nothing is mounted.

        `between` is called after each tensor. It may mount adapters, and must unmount them.
        """
        clones = differing(self.pristine.kept(), self._digests, between)
        return differing(self.tensors, self._digests, between) + [f"{name} (pristine clone)" for name in clones]

    def bytes_resident(self) -> tuple[int, int]:
        """Return the bytes of the live weights and of the pristine clones."""
        return _nbytes(self.tensors.values()), _nbytes(self.pristine.kept().values())

    def _check_unchanged(self, name: str, clone: Tensor) -> None:
        if resident_digest(clone) != self._digests[name]:
            raise IntegrityError(f"{name}: the resident weights changed since the start. Fix: restart the process")

    def _count_features(self) -> tuple[int, bool]:
        """Return the number of features, and True if there is one feature vector for each pixel."""
        probe = self._probe()
        features = self.features(probe)
        dense = features.shape[2:] == probe.shape[2:]
        if features.ndim != 2 and not dense:
            raise BackboneError(
                f"{self.name}: found features of shape {list(features.shape)}, expected [N, features], or a map of the "
                "input's size. Fix: choose a timm model with a pooled classifier"
            )
        return int(features.shape[1]), dense

    def _probe(self) -> Tensor:
        """A small input that has the shape of features of any other."""
        return self.zeros(1)

    def zeros(self, count: int) -> Tensor:
        """Return `count` inputs of zeros, in the backbone's own size."""
        return torch.zeros(count, *self.preprocessing.input_shape, device=self.device)


def require_device(device: str | torch.device) -> None:
    """Check that the device exists, before any work. Torch itself fails late, with a traceback."""
    try:
        requested = torch.device(device)
    except RuntimeError as error:
        raise BackboneError(
            f"found device {str(device)!r}, expected cpu, cuda or cuda:NUMBER. Fix: choose one of them"
        ) from error
    if requested.type not in ("cpu", "cuda") and not _is_present(requested):
        raise BackboneError(
            f"found device {str(device)!r}, expected one that this build of torch can use. Fix: choose cpu or cuda"
        )
    if requested.type == "cuda" and (requested.index or 0) >= torch.cuda.device_count():
        raise BackboneError(
            f"found {torch.cuda.device_count()} CUDA devices, expected {requested} among them. "
            "Fix: use the device cpu, or install an NVIDIA driver that this build of torch supports"
        )


def _is_present(device: torch.device) -> bool:
    """Whether torch has a backend for the device, such as mps, and finds the device."""
    try:
        return bool(torch.get_device_module(device).is_available())
    except (RuntimeError, AttributeError):
        return False


def _refusal(module: nn.Module, shape: tuple[int, ...], dtype: torch.dtype) -> str | None:
    shapes_only = {id(tensor): _on_meta(tensor) for tensor in (*module.parameters(), *module.buffers())}
    copied = copy.deepcopy(module, shapes_only)  # tensors in the memo are not copied
    try:
        with torch.inference_mode():
            copied(torch.zeros(1, *shape, device="meta", dtype=dtype))
    except NotImplementedError:  # a layer without shape inference: nothing is known
        return None
    except Exception as error:  # the network's own code may raise anything
        return f"{type(error).__name__}: {str(error)[:200]}"
    return None


def _on_meta(tensor: Tensor) -> Tensor:
    meta = tensor.to("meta")
    return nn.Parameter(meta, requires_grad=False) if isinstance(tensor, nn.Parameter) else meta


def _nbytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _targets(module: nn.Module) -> dict[str, Target]:
    """List what adapters may change: every parameter in floating point, and BatchNorm's statistics."""
    targets: dict[str, Target] = {}
    for path, layer_module in module.named_modules():
        layer = _layer(layer_module)
        tensors: dict[str, Tensor] = dict(layer_module.named_parameters(recurse=False))
        if layer is Layer.BATCH_NORM:
            tensors |= dict(layer_module.named_buffers(recurse=False))
        groups = int(getattr(layer_module, "groups", 1)) if layer in (Layer.CONV, Layer.CONV_TRANSPOSED) else 1
        for name, tensor in tensors.items():
            if tensor.is_floating_point():
                full = f"{path}.{name}" if path else name
                targets[full] = Target(full, tuple(tensor.shape), layer, groups)
    return targets


def _layer(module: nn.Module) -> Layer:
    match module:
        case nn.Linear():
            return Layer.LINEAR
        case nn.ConvTranspose1d() | nn.ConvTranspose2d() | nn.ConvTranspose3d():
            return Layer.CONV_TRANSPOSED
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            return Layer.CONV
        case nn.BatchNorm1d() | nn.BatchNorm2d() | nn.BatchNorm3d():
            return Layer.BATCH_NORM
        case nn.LayerNorm() | nn.GroupNorm() | nn.InstanceNorm1d() | nn.InstanceNorm2d() | nn.InstanceNorm3d():
            return Layer.NORM
        case nn.RMSNorm() | RmsNorm() | RmsNorm2d():
            return Layer.NORM
        case nn.PReLU():
            return Layer.OTHER
    return Layer.PARAMETER
