"""One label as the positive result of a test: sensitivity, specificity and predictive values, each with an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from lensmount_adapters.metrics.share import Share


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} (95 % interval {self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """An image is called `positive` if that label's score is at least `threshold`; without one, if it is the highest.

    Of the positive images `sensitivity` are called positive, and of the others `specificity` are not. Of those called
    positive `ppv` are, and of the others `npv` are not: this holds where positive images are as frequent as here. A
    figure of no images is None.
    """

    positive: str
    threshold: float | None
    sensitivity: Share | None
    specificity: Share | None
    ppv: Share | None
    npv: Share | None

    def predictive_values(self, prevalence: float) -> tuple[Estimate | None, Estimate | None] | None:
        """PPV and NPV where the share `prevalence` in (0, 1) of all images is positive, by Bayes' rule.

            PPV = 1 / (1 + r (1 - prevalence) / prevalence)    r = (1 - specificity) / sensitivity
            NPV = 1 / (1 + r prevalence / (1 - prevalence))    r = (1 - sensitivity) / specificity

        The interval of each ratio r is that of Donner and Zou (Stat Methods Med Res 2012, 21:347) from both Wilson
        intervals, which a share of 0 or 1 has as well. None if images of one kind are missing; PPV is None if no image
        was called positive, and NPV if all were.
        """
        found, left = self.sensitivity, self.specificity
        if found is None or left is None:
            return None
        odds = prevalence / (1 - prevalence)
        false_alarms, missed = Share(left.of - left.count, left.of), Share(found.of - found.count, found.of)
        ppv = _predictive(false_alarms, found, 1 / odds) if found.count + false_alarms.count else None
        npv = _predictive(missed, left, odds) if left.count + missed.count else None
        return ppv, npv

    def to_json(self) -> dict[str, Any]:
        shares = {"sensitivity": self.sensitivity, "specificity": self.specificity, "ppv": self.ppv, "npv": self.npv}
        figures = {name: None if share is None else share.to_json() for name, share in shares.items()}
        return {"positive": self.positive, "threshold": self.threshold, **figures}


def diagnose(
    truth: Tensor, scores: Tensor, labels: Sequence[str], positive: str, threshold: float | None = None
) -> Diagnostic:
    """Measure class indices `truth` [N] and `scores` [N, classes] in [0, 1]; `positive` is one of `labels`."""
    index, s = list(labels).index(positive), scores.detach().cpu().double().numpy()
    is_positive = truth.cpu().numpy() == index  # [N]
    called = s.argmax(axis=1) == index if threshold is None else s[:, index] >= threshold  # [N]
    pairs = [(is_positive, called), (~is_positive, ~called), (called, is_positive), (~called, ~is_positive)]
    return Diagnostic(positive, threshold, *(_share(right, of) for of, right in pairs))


def diagnose_each(confusion: Sequence[Sequence[int]], labels: Sequence[str]) -> list[Diagnostic]:
    """Each label as the positive one, if the label with the highest score is the answer."""
    counts = np.array(confusion)  # [truth, answer]
    found = []
    for index, label in enumerate(labels):
        hit, of, called = int(counts[index, index]), int(counts[index].sum()), int(counts[:, index].sum())
        everything = int(counts.sum())
        left = everything - of - called + hit  # neither the label nor called so
        found.append(
            Diagnostic(
                label,
                None,
                Share.among(hit, of),
                Share.among(left, everything - of),
                Share.among(hit, called),
                Share.among(left, everything - called),
            )
        )
    return found


def ratio(above: Share, below: Share) -> Estimate:
    """`above / below` of two independent shares; infinite if `below` is 0.

    The ends solve (above - r below)^2 = (distance of one to its limit)^2 + r^2 (distance of the other)^2.
    """
    a, b = above.value, below.value
    product = a * b
    # written so that nothing is divided by the difference of nearly equal numbers
    c, d = above.low * (2 * a - above.low), below.high * (2 * b - below.high)
    lower = product + math.sqrt(max(0.0, product * product - c * d))
    c_high, d_low = above.high * (2 * a - above.high), below.low * (2 * b - below.low)
    upper = product + math.sqrt(max(0.0, product * product - c_high * d_low))
    return Estimate(a / b if b else math.inf, c / lower if lower else 0.0, upper / d_low if d_low > 0 else math.inf)


def _predictive(wrong: Share, right: Share, odds: float) -> Estimate:
    """1 / (1 + r odds): the larger the ratio, the smaller the predictive value."""
    wrong_to_right = ratio(wrong, right)
    return Estimate(*(1 / (1 + r * odds) for r in (wrong_to_right.value, wrong_to_right.high, wrong_to_right.low)))


def _share(right: np.ndarray, of: np.ndarray) -> Share | None:
    return Share.among(int((right & of).sum()), int(of.sum()))
