"""Tie a trust block to its file, and refuse promises that were measured with anything else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lensmount_adapters.adapter.manifest import Manifest, SegmentationHead
from lensmount_adapters.adapter.trust import Trust
from lensmount_adapters.backbone.fingerprint import fingerprint_of_tensors
from lensmount_adapters.errors import AdapterInvalid, AdapterTooLarge

PREFIX = "trust."
MEANS, BASIS, SCALES, RESIDUAL = (f"{PREFIX}{part}" for part in ("means", "basis", "scales", "residual"))
MAX_BYTES = 200_000
SMALLEST_SCALE = 1e-6  # a distance divides by the scales
_MEASURED_WITH = {"backbone", "preprocessing", "labels", "head", "modules", "trust"}
_FIX = "Fix: train again with the option calibration, or leave the trust block and the tensors trust.* out"

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """The training images' pooled activations [D]: one mean per class, and a covariance that all classes share.

    The standard deviation is `scales[i]` along row i of `basis`, whose rows are orthonormal, and `residual` along every
    other direction.
    """

    means: Array  # [classes, D]
    basis: Array  # [k, D]
    scales: Array  # [k]
    residual: float

    def tensors(self) -> dict[str, Tensor]:
        """The tensors under their names in the adapter file."""
        arrays = {MEANS: self.means, BASIS: self.basis, SCALES: self.scales, RESIDUAL: [self.residual]}
        return {name: torch.tensor(np.ascontiguousarray(array, np.float32)) for name, array in arrays.items()}

    @property
    def nbytes(self) -> int:
        return self.means.nbytes + self.basis.nbytes + self.scales.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class AdapterTrust:
    """The trust block of an admitted adapter, with the statistics if the block has `familiarity`."""

    block: Trust
    statistics: Statistics | None


def sealed(manifest: Manifest, stored: Mapping[str, Tensor]) -> Manifest:
    """The manifest whose trust block belongs to these tensors, as they are stored. It must have a block."""
    assert manifest.trust is not None
    return manifest.model_copy(
        update={"trust": manifest.trust.model_copy(update={"of": measured_with(manifest, stored)})}
    )


def measured_with(manifest: Manifest, stored: Mapping[str, Tensor]) -> str:
    """The digest of all that the promises depend on, and of the promises: no part can be exchanged.

    It leaves out the temperature, which has a check of its own, and the training record, which changes no answer.
    """
    parts = manifest.model_dump(mode="json", include=_MEASURED_WITH)
    parts["head"].pop("temperature")
    parts["trust"].pop("of")
    text = json.dumps(parts, sort_keys=True, allow_nan=False) + fingerprint_of_tensors(stored)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def without_trust(manifest: Manifest) -> Manifest:
    """The manifest of an adapter that changed since it was measured: it promises nothing."""
    return manifest.model_copy(update={"trust": None})


def load_trust(manifest: Manifest, tensors: Mapping[str, Tensor]) -> AdapterTrust | None:
    """Check the trust block and read its tensors; None without one. `tensors` are all of the file, finite.

    Raises AdapterInvalid (`trust_mismatch`) for promises that were measured with another adapter, temperature, backbone
    or classes, and for statistics that do not fit together.
    """
    statistics = {name: tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    trust = manifest.trust
    if trust is None:
        if statistics:
            raise _mismatch("", f"found the tensor {min(statistics)[:80]} and no trust block", "both or neither")
        return None
    if isinstance(manifest.head, SegmentationHead):
        raise _mismatch("", "found a trust block for masks", "none: it describes classes")
    _check_promises(manifest, trust)
    _check_familiarity(manifest, trust, statistics)
    if trust.of != (own := measured_with(manifest, tensors)):
        raise _mismatch(".of", f"found promises of {trust.of[:19]}...", f"those of this adapter, {own[:19]}...")
    read = {name: tensor.float().cpu().numpy() for name, tensor in statistics.items()}
    if not read:
        return AdapterTrust(trust, None)
    return AdapterTrust(trust, Statistics(read[MEANS], read[BASIS], read[SCALES], float(read[RESIDUAL][0])))


def check_layer(trust: Trust, layer: str) -> None:
    """`layer` is the last one before all that the adapter changes.

    Raises AdapterInvalid (`trust_mismatch`) for statistics of another layer, whose activations nobody computes.
    """
    found = trust.familiarity.space.split("|")[1] if trust.familiarity is not None else layer
    if found != layer:
        raise _mismatch(
            ".familiarity.space",
            f"found statistics of the layer {found[:80]}",
            f"those of {layer}, the last layer before all that the adapter changes",
        )


def _check_promises(manifest: Manifest, trust: Trust) -> None:
    classes, temperature = len(manifest.labels), manifest.head.temperature
    calibration, conformal, operating = trust.calibration, trust.conformal, trust.operating
    if calibration is not None and calibration.temperature != temperature:
        raise _mismatch(
            ".calibration.temperature",
            f"found {calibration.temperature:g} with a head of temperature {temperature:g}",
            "the same number, since the promises hold with that temperature alone",
        )
    for field in ("thresholds", "images"):
        if conformal is not None and len(getattr(conformal, field)) != classes:
            raise _mismatch(
                f".conformal.{field}", f"found {len(getattr(conformal, field))}", f"{classes}, one for each label"
            )
    if operating is not None and operating.positive not in manifest.labels:
        raise _mismatch(".operating.positive", f"found {operating.positive[:80]!r}", "one of the labels")


def _check_familiarity(manifest: Manifest, trust: Trust, tensors: Mapping[str, Tensor]) -> None:
    familiarity, where = trust.familiarity, ".familiarity"
    expected = {MEANS, BASIS, SCALES, RESIDUAL} if familiarity is not None else set()
    if tensors.keys() != expected:
        listed = ", ".join(sorted(name[:40] for name in tensors)[:8])
        raise _mismatch(where, f"found the tensors {listed or 'none'}", ", ".join(sorted(expected)) or "none")
    if familiarity is None:
        return
    if familiarity.backbone != manifest.backbone.fingerprint:
        raise _mismatch(
            f"{where}.space",
            f"found the backbone {familiarity.backbone[:19]}...",
            f"the adapter's own, {manifest.backbone.fingerprint[:19]}...",
        )
    if any(after < before for before, after in zip(familiarity.quantiles, familiarity.quantiles[1:], strict=False)):
        raise _mismatch(f"{where}.quantiles", "found quantiles that fall", "quantiles that do not")
    if (size := sum(tensor.nbytes for tensor in tensors.values())) > MAX_BYTES:
        raise AdapterTooLarge(
            f"trust.*: found {size} bytes, expected at most {MAX_BYTES}. Fix: keep fewer rows of {BASIS}, or "
            "leave the trust block and the tensors trust.* out"
        )
    _check_shapes(len(manifest.labels), tensors)


def _check_shapes(classes: int, tensors: Mapping[str, Tensor]) -> None:
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    width, directions = (shapes[MEANS] or [0])[-1], (shapes[BASIS] or [0])[0]
    expected = {MEANS: [classes, width], BASIS: [directions, width], SCALES: [directions], RESIDUAL: [1]}
    for name, shape in expected.items():
        if shapes[name] != shape:
            raise _mismatch(f", {name}", f"found shape {shapes[name]}", str(shape))
    for name in (SCALES, RESIDUAL):
        if (smallest := float(tensors[name].min())) < SMALLEST_SCALE:
            raise _mismatch(f", {name}", f"found {smallest:.3g}", f"at least {SMALLEST_SCALE:g}")


def _mismatch(where: str, found: str, expected: str) -> AdapterInvalid:
    return AdapterInvalid(f"trust{where}: {found}, expected {expected}. {_FIX}", code="trust_mismatch")
