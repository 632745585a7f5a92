"""Decides whether an answer can be relied on, and says why a strict answer has no labels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lensmount_adapters.trust.distance import percentile_of
from lensmount_adapters.trust.judge import Judgement, judge
from lensmount_service.store.catalog import Snapshot
from lensmount_service.store.registry import Version


def judged(snapshot: Snapshot, scores: Sequence[float], pooled: Tensor | None) -> Judgement | None:
    """What to say of one image with these `scores`, one per label, and `pooled` activations [channels].

    None if the adapter promises nothing about its answers.
    """
    trust, version = snapshot.adapter.trust, snapshot.version
    if trust is None:
        return None
    percentile = percentile_of(trust, None if pooled is None else pooled.numpy())
    return judge(trust.block, version.manifest.labels, scores, percentile, version.thresholds)


def promised_score(version: Version) -> float | None:
    """The mean of the top score that a version promises, or None if it promises nothing.

    A calibrated adapter is right as often as its top scores say, so it is the accuracy that was measured on images that
    training did not see: those of its test, or of its validation if it has none.
    """
    manifest = version.manifest
    if manifest.trust is None or manifest.trust.calibration is None:
        return None
    metrics = manifest.training.get("metrics")  # of the file, which anybody may write
    for part in ("test", "validation"):
        measured = metrics.get(part) if isinstance(metrics, dict) else None
        accuracy = measured.get("accuracy") if isinstance(measured, dict) else None
        if isinstance(accuracy, int | float) and 0 <= accuracy <= 1:
            return float(accuracy)
    return None


def why_abstained(version: Version, judgement: Judgement | None) -> str | None:
    """The reason for which a strict answer has no labels, or None if it has them."""
    name = f"{version.name}@{version.version}"
    if judgement is None:
        return f"{name} promises nothing about its answers. Fix: train it with calibration, or ask without strict"
    if judgement.decision == "accept":
        return None
    if judgement.decision == "unfamiliar":
        return f"the image is unlike those that {name} was trained on (percentile {judgement.percentile:.1f})"
    return f"{name} is not sure enough of this image (confidence {judgement.confidence:.3f})"
