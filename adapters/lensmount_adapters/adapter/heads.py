"""The head of an adapter: from the backbone's features [N, features] to one logit per class, or from maps to maps."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lensmount_adapters.adapter.manifest import (
    BatchNormLayer,
    CosineHead,
    DropoutLayer,
    FeaturesHead,
    HeadSpec,
    LeakyReluLayer,
    LinearHead,
    LinearLayer,
    MlpHead,
    MlpLayer,
    SegmentationHead,
)
from lensmount_adapters.errors import AdapterInvalid


class Cosine(nn.Module):
    """Logits are the scaled cosine between the features and one prototype per class (CLIP, arXiv 2103.00020)."""

    def __init__(self, features: int, classes: int, dim: int, *, projected: bool) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(classes, dim))
        self.logit_scale = nn.Parameter(torch.tensor(4.6052))  # ln 100, the value that CLIP's training reaches
        self.projection = nn.Parameter(torch.randn(dim, features) / features**0.5) if projected else None

    def forward(self, features: Tensor) -> Tensor:
        x = features if self.projection is None else features @ self.projection.T  # [N, dim]
        return self.logit_scale.exp() * F.normalize(x, dim=1) @ F.normalize(self.prototypes, dim=1).T


def build_head(spec: HeadSpec, features: int, classes: int) -> nn.Module:
    """A newly initialised head for `features` inputs and `classes` outputs.

    Raises AdapterInvalid (`head_mismatch`) if the spec's sizes do not fit.
    """
    if isinstance(spec, LinearHead):
        return nn.Linear(features, classes)
    if isinstance(spec, CosineHead):
        if not spec.projected and spec.dim != features:
            raise _mismatch("cosine head", f"prototypes of {spec.dim} dimensions", f"{features} or a projection")
        return Cosine(features, classes, spec.dim, projected=spec.projected)
    if isinstance(spec, SegmentationHead):
        return nn.Conv2d(features, classes, kernel_size=1)
    return _build_mlp(spec, features, classes)


def load_head(spec: HeadSpec, features: int, classes: int, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The head in eval mode with the file's `head.*` tensors, in float32.

    Raises AdapterInvalid: `head_missing` for no or too few tensors, `adapter_unknown_target` for an extra one,
    `head_mismatch` for a wrong shape.
    """
    with torch.device("meta"):
        head = build_head(spec, features, classes)
    expected = {name: tensor for name, tensor in head.state_dict().items() if not name.endswith("num_batches_tracked")}
    found = {name.removeprefix("head."): tensor.float() for name, tensor in tensors.items()}
    if missing := sorted(expected.keys() - found.keys()):
        raise AdapterInvalid(
            f"head: found no tensor head.{missing[0]}, expected it for a {spec.kind} head. Fix: store all of "
            f"{', '.join(f'head.{name}' for name in sorted(expected))[:400]}",
            code="head_missing",
        )
    if extra := sorted(found.keys() - expected.keys()):
        raise AdapterInvalid(
            f"head: found an extra tensor head.{extra[0][:120]!r}, expected only {', '.join(sorted(expected))}. "
            "Fix: leave it out, or describe the head in the manifest as it was trained",
            code="adapter_unknown_target",
        )
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape:
            raise _mismatch(f"head.{name}", f"shape {list(found[name].shape)}", f"{list(tensor.shape)}")
    _check_values(found)
    tracked = {name: torch.tensor(0) for name in head.state_dict() if name.endswith("num_batches_tracked")}
    head.load_state_dict({**found, **tracked}, assign=True)
    return head.eval().requires_grad_(False)


def _check_values(tensors: Mapping[str, Tensor]) -> None:
    """Raise AdapterInvalid for finite numbers of which the head makes infinity or NaN, whatever the image."""
    for name, tensor in tensors.items():
        if name == "logit_scale" and not torch.isfinite(tensor.exp()).all():
            raise AdapterInvalid(
                f"head.{name}: found {float(tensor):.4g}, expected at most 88: its exponential overflows float32. "
                "Fix: store the natural logarithm of the scale, 4.6 for 100",
                code="adapter_not_finite",
            )
        if name.endswith("running_var") and (tensor < 0).any():
            raise AdapterInvalid(
                f"head.{name}: found {float(tensor.min()):.4g}, expected no variance below zero. Fix: store the "
                "variance that training measured",
                code="adapter_not_finite",
            )


def head_tensors(head: nn.Module) -> dict[str, Tensor]:
    """The head's tensors under their names in the adapter file."""
    return {
        f"head.{name}": tensor for name, tensor in head.state_dict().items() if not name.endswith("num_batches_tracked")
    }


def probabilities(spec: HeadSpec | FeaturesHead, logits: Tensor) -> Tensor:
    """Scores in [0, 1] from logits [N, classes, ...]: softmax over classes, or one sigmoid per class.

    A score is NaN where its logit is infinite, so that an overflow is never a confident answer. Features stay as they
    are.
    """
    if isinstance(spec, FeaturesHead):
        return logits.float()
    scaled = logits.float() / spec.temperature
    scores = scaled.softmax(dim=1) if spec.activation == "softmax" else scaled.sigmoid()
    return scores + 0 * scaled


def _build_mlp(spec: MlpHead, features: int, classes: int) -> nn.Module:
    width = features
    modules: list[nn.Module] = []
    for index, layer in enumerate(spec.layers):
        width = _width_after(layer, width, index)
        modules.append(_build_layer(layer))
    if not isinstance(spec.layers[-1], LinearLayer) or width != classes:
        raise _mismatch(
            "mlp head", f"a last layer with {width} outputs", f"a linear layer with {classes}, one per label"
        )
    return nn.Sequential(*modules)


def _width_after(layer: MlpLayer, width: int, index: int) -> int:
    field = {"linear": "in_features", "batch_norm": "features"}.get(layer.type)
    if field is not None and getattr(layer, field) != width:
        raise _mismatch(f"mlp head, layer {index}", f"{field} {getattr(layer, field)}", str(width))
    return layer.out_features if isinstance(layer, LinearLayer) else width


def _build_layer(layer: MlpLayer) -> nn.Module:
    match layer:
        case LinearLayer():
            return nn.Linear(layer.in_features, layer.out_features)
        case BatchNormLayer():
            return nn.BatchNorm1d(layer.features)
        case LeakyReluLayer():
            return nn.LeakyReLU(layer.negative_slope)
        case DropoutLayer():
            return nn.Dropout(layer.p)


def _mismatch(where: str, found: str, expected: str) -> AdapterInvalid:
    return AdapterInvalid(
        f"{where}: found {found}, expected {expected}. Fix: correct the manifest's head and labels, or serve it on the "
        "backbone that it was trained on",
        code="head_mismatch",
    )
