"""What one answer is worth: accept it, or say that the image is uncertain or unlike the training images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lensmount_adapters.adapter.trust import Trust
from lensmount_adapters.trust.conformal import label_sets

Decision = Literal["accept", "uncertain", "unfamiliar"]


@dataclass(frozen=True, slots=True)
class Overrides:
    """Thresholds that an operator set in place of the adapter's own; None keeps the adapter's."""

    accept_confidence: float | None = None  # the top score from which on an answer is accepted
    unfamiliar_percentile: float | None = None  # the percentile from which on an image is flagged


@dataclass(frozen=True, slots=True)
class Judgement:
    """`labels` is the set of labels, None if the adapter has no thresholds for it.

    `percentile` of unfamiliarity is None if it was not measured; `flag` says that it is too high. `images`, `ece` and
    `coverage` say what the decision rests on.
    """

    decision: Decision
    confidence: float
    labels: tuple[str, ...] | None
    percentile: float | None
    flag: bool
    images: int | None
    ece: float | None
    coverage: float | None

    def to_json(self) -> dict[str, Any]:
        """The answer's `trust`."""
        unfamiliarity = None if self.percentile is None else {"percentile": self.percentile, "flag": self.flag}
        calibration = None
        if self.images is not None:
            calibration = {"images": self.images, "ece": self.ece, "coverage": self.coverage}
        return {
            "decision": self.decision,
            "confidence": self.confidence,
            "set": None if self.labels is None else list(self.labels),
            "unfamiliarity": unfamiliarity,
            "calibration": calibration,
        }


def judge(
    trust: Trust,
    labels: Sequence[str],
    scores: Sequence[float],
    percentile: float | None = None,
    overrides: Overrides | None = None,
) -> Judgement:
    """Decide on one image's `scores`, one per label, and the `percentile` in 0 to 100 of its unfamiliarity.

    An image is unfamiliar if its percentile is at least the flag's. Otherwise it is uncertain if its top score is below
    the threshold; without a threshold, if its set has no label or several. Otherwise the answer is accepted.
    """
    overrides = overrides or Overrides()
    confidence = float(max(scores))
    chosen = _set_of(trust, labels, scores)
    flag_from = overrides.unfamiliar_percentile
    if flag_from is None and trust.familiarity is not None:
        flag_from = trust.familiarity.flag
    flag = percentile is not None and flag_from is not None and percentile >= flag_from
    threshold = overrides.accept_confidence
    if threshold is None and trust.selective is not None:
        threshold = trust.selective.threshold
    uncertain = confidence < threshold if threshold is not None else chosen is not None and len(chosen) != 1
    calibration = trust.calibration
    return Judgement(
        decision="unfamiliar" if flag else "uncertain" if uncertain else "accept",
        confidence=confidence,
        labels=chosen,
        percentile=percentile,
        flag=flag,
        images=None if calibration is None else calibration.images,
        ece=None if calibration is None else calibration.ece,
        coverage=None if trust.conformal is None else trust.conformal.coverage,
    )


def _set_of(trust: Trust, labels: Sequence[str], scores: Sequence[float]) -> tuple[str, ...] | None:
    if trust.conformal is None:
        return None
    inside = label_sets(trust.conformal, np.array([scores], np.float64))[0]
    return tuple(label for label, chosen in zip(labels, inside, strict=True) if chosen)
