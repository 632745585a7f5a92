"""Admission: the only place that checks an adapter file. It is fully validated before anything changes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.adapter.file import parse_adapter
from lensmount_adapters.adapter.header import Limits
from lensmount_adapters.adapter.heads import load_head
from lensmount_adapters.adapter.manifest import Manifest, SegmentationHead
from lensmount_adapters.adapter.manifest_check import check_numbers
from lensmount_adapters.adapter.precision import rounding_between
from lensmount_adapters.adapter.trust_check import PREFIX, load_trust
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.backbone.target import Layer, Target
from lensmount_adapters.delta.kinds import Delta
from lensmount_adapters.delta.read import read_deltas
from lensmount_adapters.delta.sizes import full_rank
from lensmount_adapters.errors import AdapterInvalid, AdapterTooLarge, BackboneMismatch

HEAD_ONLY = "head"


def admit(data: bytes, backbone: Backbone, limits: Limits | None = None) -> Adapter:
    """Check the bytes of an adapter file against the backbone and return the immutable adapter.

    Raises an AdapterError that says what was found, what was expected and how to fix it. The backbone is never written.
    """
    limits = limits or Limits()
    file = parse_adapter(data, limits)
    check_numbers(file.manifest)
    _check_backbone(file.manifest, backbone)
    _check_limits(file.manifest, backbone, limits)
    _check_finite(file.tensors)
    head = {name: tensor for name, tensor in file.tensors.items() if name.startswith("head.")}
    trust = load_trust(file.manifest, file.tensors)
    factors = {
        name: tensor.to(backbone.device)
        for name, tensor in file.tensors.items()
        if name not in head and not name.startswith(PREFIX)
    }
    deltas = read_deltas(backbone.targets, factors, file.manifest.scales())
    _check_modules(file.manifest, deltas)
    _check_merged(file.manifest, deltas, backbone, limits)
    module = load_head(file.manifest.head, backbone.feature_dim, len(file.manifest.labels), head)
    return Adapter(file.digest, file.size_bytes, file.manifest, deltas, module.to(backbone.device), trust)


def _check_backbone(manifest: Manifest, backbone: Backbone) -> None:
    if not backbone.fits(manifest.backbone):
        raise mismatch(manifest, backbone)
    if type(manifest.preprocessing) is not type(backbone.preprocessing):
        raise AdapterInvalid(
            f"preprocessing: found a {type(manifest.preprocessing).__name__} ({manifest.preprocessing}), expected a "
            f"{type(backbone.preprocessing).__name__} for {backbone.name}. Fix: serve it on a backbone for such "
            "inputs, or train it again on this one",
            code="preprocessing_mismatch",
        )
    if backbone.fixed_size and manifest.preprocessing.size != backbone.preprocessing.size:
        raise AdapterInvalid(
            f"preprocessing: found size {list(manifest.preprocessing.size)}, expected "
            f"{list(backbone.preprocessing.size)}: {backbone.name} accepts this size only. Fix: train at this size",
            code="preprocessing_mismatch",
        )
    if any(side % backbone.size_step for side in manifest.preprocessing.size):
        raise AdapterInvalid(
            f"preprocessing: found size {list(manifest.preprocessing.size)}, expected multiples of "
            f"{backbone.size_step}: {backbone.name} accepts no others. Fix: train at such a size",
            code="preprocessing_mismatch",
        )
    shape, usual_shape = manifest.preprocessing.input_shape, backbone.preprocessing.input_shape
    if any(2 * side < usual for side, usual in zip(shape, usual_shape, strict=True)) and (
        why := backbone.refuses(shape)
    ):
        raise AdapterInvalid(
            f"preprocessing: found an input of {' x '.join(map(str, shape))}, expected one that {backbone.name} can "
            f"compute ({why}). Fix: use a larger size, such as {' x '.join(map(str, usual_shape))}",
            code="preprocessing_mismatch",
        )
    if backbone.dense != isinstance(manifest.head, SegmentationHead):
        output, accepted = ("maps", "a segmentation") if backbone.dense else ("one vector per image", "any other")
        raise AdapterInvalid(
            f"head: found a {manifest.head.kind} head, expected {accepted} head: {backbone.name} gives {output} of "
            "features. Fix: serve it on the backbone that it was trained on",
            code="head_mismatch",
        )


def mismatch(manifest: Manifest, backbone: Backbone) -> BackboneMismatch:
    """Why the adapter does not fit the backbone, and what helps: other weights, another precision, another network."""
    made_for, rounding = manifest.backbone, rounding_between(manifest, backbone)
    if made_for.fingerprint == backbone.fingerprint:
        return BackboneMismatch(
            f"found an adapter for {made_for.name}, another network with the weights of {backbone.name}, expected "
            f"{backbone.name}. Fix: serve it on {made_for.name} with these weights"
        )
    found = f"found an adapter for {made_for.name} ({made_for.fingerprint[:19]}...)"
    expected = f"expected {backbone.name} ({backbone.fingerprint[:19]}...)"
    if rounding is not None:
        rounded, precise = ("those here", "its own") if rounding.here else ("its own", "those here")
        return BackboneMismatch(
            f"{found}, {expected}: the same weights, {rounded} are {precise} rounded to {rounding.dtype}. Fix: accept "
            "the difference with `lensmount adapters push FILE --accept-rounded-backbone`, which measures it, or load "
            "the weights that the adapter was made for"
        )
    of_half = next((word for word, own in backbone.rounded_fingerprints.items() if own == backbone.fingerprint), None)
    if of_half is None:
        return BackboneMismatch(f"{found}, {expected}. Fix: serve it on its own backbone or train it again")
    return BackboneMismatch(
        f"{found}, {expected}, which was stored in {of_half}; the file does not say what its own weights are when they "
        f"are stored so. Fix: load the weights as they were before they were stored in {of_half}. Or write the adapter "
        "again where these are: `lensmount adapters compose FILE --weights ORIGINAL --file-dtype float32 --name NEW`, "
        "and push NEW.safetensors with --accept-rounded-backbone"
    )


def _check_limits(manifest: Manifest, backbone: Backbone, limits: Limits) -> None:
    """Check the number of labels, and that no rank is above both the limit and the layer's own."""
    if len(manifest.labels) > limits.max_classes:
        raise AdapterTooLarge(
            f"found {len(manifest.labels)} labels, expected at most {limits.max_classes}. Fix: train with fewer classes"
        )
    layers = {target.path: target for target in backbone.targets.values()}
    for module, factors in manifest.modules.items():
        own = full_rank(layers[module]) if module in layers else 1
        if factors.rank > max(limits.max_rank, own):
            raise AdapterTooLarge(
                f"{module[:120]}: found rank {factors.rank}, expected at most {max(limits.max_rank, own)}: the layer's "
                f"own rank is {own}. Fix: store the product as a full delta <module>.weight.delta",
                code="rank_too_large",
            )


def _check_finite(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise AdapterInvalid(
                f"{name}: found NaN or infinity, expected finite values. Fix: train with a lower learning rate, or "
                "write the file with lensmount_adapters.write_adapter, which keeps in float32 what overflows float16",
                code="adapter_not_finite",
            )


def _check_modules(manifest: Manifest, deltas: tuple[Delta, ...]) -> None:
    """Check that each module in the manifest has factors, and that their rank is the manifest's."""
    ranks = {delta.target.path: delta.rank for delta in deltas if delta.rank is not None}
    for module, factors in manifest.modules.items():
        if module not in ranks:
            raise AdapterInvalid(
                f"{module[:120]!r}: the manifest gives a rank, but the file has no factors for it, "
                "expected lora_A and lora_B. Fix: add the factors, or remove the module from the manifest",
                code="adapter_incomplete",
            )
        if ranks[module] != factors.rank:
            raise AdapterInvalid(
                f"{module}: the manifest says rank {factors.rank}, the factors have rank {ranks[module]}, expected the "
                f"same. Fix: write rank {ranks[module]} into the manifest, and the alpha that goes with it",
                code="adapter_shape_mismatch",
            )


def _check_merged(manifest: Manifest, deltas: tuple[Delta, ...], backbone: Backbone, limits: Limits) -> None:
    """Check that merged weights are finite in the serving dtype, deltas are not too large, and one has an effect."""
    effective = False
    bases = backbone.base(delta.target.name for delta in deltas)
    for delta in deltas:
        name = delta.target.name
        base = bases[name]
        exact = delta.merged(base)
        if not torch.isfinite(exact).all():
            raise AdapterInvalid(
                f"{name}: the merged weights are not finite. Fix: lower alpha, or the factors or scales of this tensor",
                code="adapter_not_finite",
            )
        merged = torch.empty_like(base)
        delta.write(base, merged)
        if not torch.isfinite(merged).all():
            raise AdapterInvalid(
                f"{name}: the merged weights overflow {str(base.dtype).removeprefix('torch.')}. "
                "Fix: serve in float32 or lower alpha",
                code="adapter_overflow",
            )
        if name.endswith("running_var") and (merged < 0).any():
            raise AdapterInvalid(
                f"{name}: found a merged variance below zero, expected none. Fix: store the difference between the "
                "trained variance and the backbone's, in float32",
                code="adapter_invalid",
            )
        if base.ndim > 1:
            _check_ratio(delta.target, exact - base.float(), base.float(), limits.max_delta_ratio)
        effective = effective or not torch.equal(merged, base)
    if not effective and manifest.method != HEAD_ONLY:
        raise AdapterInvalid(
            "found no delta that changes any weight, expected at least one. "
            f"Fix: for a head on the bare backbone use method {HEAD_ONLY!r}",
            code="adapter_no_effect",
        )


def _check_ratio(target: Target, delta: Tensor, base: Tensor, max_ratio: float) -> None:
    """Check that a delta is at most `max_ratio` times as large as its weight, or no larger than a new weight.

    The second half is for weights of zero or close to it, such as class tokens: a ratio to these says nothing. The
    rows of a new layer have length 1, so that its outputs are as large as its inputs; the elements of a new parameter,
    which is added to activations or multiplies them, have size 1.
    """
    new = math.sqrt(base.numel() if target.layer is Layer.PARAMETER else len(base))
    size, allowed = float(delta.norm()), max(max_ratio * float(base.norm()), new)
    if size > allowed:
        ratio = f"{size / float(base.norm()):.1f} times as large as the weight" if base.any() else "for a weight of 0"
        raise AdapterInvalid(
            f"{target.name}: found a delta of size {size:.3g}, {ratio}, expected at most {max_ratio:g} times or "
            f"{new:.3g}, the size of a new weight. Fix: lower alpha or the learning rate",
            code="adapter_norm_limit",
        )
