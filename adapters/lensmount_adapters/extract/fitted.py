"""A checkpoint's tensors under the names of the backbone, with the classifier apart; or why it is another network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import AdapterInvalid, AdapterUnsupported
from lensmount_adapters.extract.checkpoint import Checkpoint
from lensmount_adapters.foreign.names import Names

NAMES_SHOWN = 6


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """`weights` has every floating-point tensor of the backbone; the head is [classes, features] and [classes]."""

    weights: Mapping[str, Tensor]
    head_weight: Tensor
    head_bias: Tensor
    notes: tuple[str, ...]

    @contextmanager
    def mounted(self, backbone: Backbone) -> Iterator[Callable[[Tensor], Tensor]]:
        """Inside, the backbone has these weights; yields the function from preprocessed images to logits."""
        base = backbone.base(backbone.tensors)
        weight, bias = self.head_weight.to(backbone.device), self.head_bias.to(backbone.device)
        try:
            with torch.no_grad():
                for name, tensor in self.weights.items():
                    backbone.tensors[name].copy_(tensor)
            yield lambda images: backbone.features(images) @ weight.mT + bias
        finally:
            with torch.no_grad():
                for name, tensor in base.items():
                    backbone.tensors[name].copy_(tensor)


def fit(checkpoint: Checkpoint, backbone: Backbone) -> Fitted:
    """Match every tensor of the checkpoint to one of the backbone or of its classifier.

    Prefixes of training tools are left out, and names of transformers and torchvision are read as timm's. Raises
    AdapterInvalid (`adapter_unknown_target`, `adapter_shape_mismatch`, `head_missing`, `head_mismatch`).
    """
    names = Names.of(backbone)
    pieces: dict[str, dict[int | None, Tensor]] = {}
    rest: dict[str, Tensor] = {}
    for name, tensor in checkpoint.tensors.items():
        if not tensor.is_floating_point():
            continue  # a count, such as num_batches_tracked, or a table of indices
        place = names.place(name)
        if isinstance(place, str):
            rest[name] = tensor
            continue
        own = f"{place.path}.{place.part}" if place.part else place.path
        if own not in backbone.tensors:
            rest[f"{place.theirs}.{place.part}"] = tensor
            continue
        thirds = pieces.setdefault(own, {})
        if place.third in thirds:
            raise AdapterInvalid(
                f"{checkpoint.file}: found two tensors that stand for {own}, expected one. Fix: save one state dict",
                code="adapter_unknown_target",
            )
        thirds[place.third] = tensor
    matched = {own: _whole(own, thirds) for own, thirds in pieces.items()}
    _check_names(checkpoint, backbone, matched, rest)
    _check_shapes(backbone, matched)
    _check_finite(checkpoint, {**matched, **rest})
    weight, bias, head = _head(checkpoint, backbone, rest)
    said = [f"{', '.join(map(repr, sorted(names.prefixes)))} in front of names was left out"] if names.prefixes else []
    if names.translated:
        theirs, ours = next(iter(names.translated.items()))
        said.append(f"names of another library are read as timm's, such as {theirs} as {ours}")
    return Fitted(matched, weight, bias, (*checkpoint.notes, *said, f"the classifier is {head}"))


def _whole(name: str, thirds: Mapping[int | None, Tensor]) -> Tensor:
    """A tensor, or the rows of q, k and v in one. Two of three stay two, whose shape is then refused."""
    if len(thirds) == 1:
        return next(iter(thirds.values()))
    if len({tensor.shape[1:] for tensor in thirds.values()}) > 1 or not all(tensor.ndim for tensor in thirds.values()):
        shapes = ", ".join(str(list(tensor.shape)) for tensor in thirds.values())
        raise AdapterInvalid(
            f"{name}: found parts of shapes {shapes}, expected "
            "queries, keys and values of one size. Fix: --base NAME with the network that was trained",
            code="adapter_shape_mismatch",
        )
    return torch.cat([thirds[third] for third in sorted(thirds, key=lambda third: third or 0)])


def _check_names(
    checkpoint: Checkpoint, backbone: Backbone, matched: Mapping[str, Tensor], rest: Mapping[str, Tensor]
) -> None:
    missing = [name for name in backbone.tensors if name not in matched]
    if missing:
        arch = f" (it says arch {checkpoint.arch!r})" if checkpoint.arch not in ("", backbone.name) else ""
        fix = f"--base {checkpoint.arch}" if arch else "--base NAME with the network that was trained"
        raise AdapterInvalid(
            f"{checkpoint.file}{arch}: found no {_listed(missing)}, expected all {len(backbone.tensors)} tensors of "
            f"{backbone.name}; it has {_listed(list(rest)) or 'no others'}. Fix: {fix}",
            code="adapter_unknown_target",
        )


def _check_shapes(backbone: Backbone, matched: Mapping[str, Tensor]) -> None:
    for name, own in backbone.tensors.items():
        found, expected = tuple(matched[name].shape), tuple(own.shape)
        if found != expected:
            raise AdapterInvalid(
                f"{name}: found shape {list(found)}, expected {list(expected)} for {backbone.name}"
                f"{_reason(name, found, expected, backbone)}",
                code="adapter_shape_mismatch",
            )


def _reason(name: str, found: tuple[int, ...], expected: tuple[int, ...], backbone: Backbone) -> str:
    if "pos" in name:
        return f": it was trained on images of another size. Fix: --base {backbone.name.partition('@')[0]}@SIZE"
    if len(found) >= 3 and found[:1] + found[2:] == expected[:1] + expected[2:]:
        return (
            f": it was trained on images of {found[1]} channels, and {backbone.name} takes {expected[1]}. "
            "Fix: train it with in_chans=3; an image of one channel is read as three equal ones"
        )
    return ". Fix: --base NAME with the network that was trained"


def _check_finite(checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise AdapterInvalid(
                f"{checkpoint.file}: {name}: found NaN or infinity, expected finite weights. Fix: take an earlier "
                "checkpoint of the training",
                code="adapter_not_finite",
            )


def _head(checkpoint: Checkpoint, backbone: Backbone, rest: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, str]:
    """The classifier: the one linear layer behind the backbone. Returns its weight, bias and name."""
    if not rest:
        raise AdapterInvalid(
            f"{checkpoint.file}: found only the weights of {backbone.name}, expected its classifier as well. "
            "Fix: save the network with its classifier, which answers with the labels",
            code="head_missing",
        )
    matrices = [name for name, tensor in rest.items() if _is_matrix(tensor)]
    stem = matrices[0].removesuffix("weight") if len(matrices) == 1 else ""
    if not stem.endswith(".") or not rest.keys() <= {f"{stem}weight", f"{stem}bias"}:
        raise AdapterUnsupported(
            f"{checkpoint.file}: found {_listed(list(rest))} behind {backbone.name}, expected one linear classifier "
            "such as fc.weight and fc.bias: what happens between several layers is not in the file. Fix: train it "
            "with one linear layer as the classifier"
        )
    weight = rest[f"{stem}weight"].flatten(1).float()
    if weight.shape[1] != backbone.feature_dim:
        raise AdapterInvalid(
            f"{checkpoint.file}: {stem}weight: found {weight.shape[1]} inputs, expected {backbone.feature_dim}, the "
            f"features of {backbone.name}. Fix: --base NAME with the network that was trained",
            code="head_mismatch",
        )
    bias = rest.get(f"{stem}bias", torch.zeros(len(weight))).float()
    return weight, bias, stem.removesuffix(".")


def _is_matrix(tensor: Tensor) -> bool:
    """Return True for [a, b] and for the weight [a, b, 1, 1] of a convolution at one point."""
    return tensor.ndim == 2 or (tensor.ndim == 4 and tensor.shape[2:] == (1, 1))


def _listed(names: list[str]) -> str:
    shown = ", ".join(name[:100] for name in names[:NAMES_SHOWN])
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"
