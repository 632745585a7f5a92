"""Everything that an adapter can promise, from its logits on images that neither trained it nor chose its epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lensmount_adapters.adapter.manifest import HeadSpec
from lensmount_adapters.adapter.trust import Calibration, Operating, Trust
from lensmount_adapters.trust.conformal import fit_conformal
from lensmount_adapters.trust.figures import figures
from lensmount_adapters.trust.operating import Kind, fit_operating
from lensmount_adapters.trust.scaling import Scaling, fit_scaling
from lensmount_adapters.trust.selective import fit_selective

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
FOLDS = 4


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be promised: the `coverage` of sets, the `accuracy` of accepted answers, an operating point or none.

    `value` of `kind` (sensitivity or specificity) belongs to the label `positive`.
    """

    coverage: float = 0.95
    accuracy: float = 0.99
    positive: str | None = None
    kind: Kind = "sensitivity"
    value: float = 0.95


def fit_trust(
    truth: Indices,
    logits: Array,
    folds: Indices,
    labels: Sequence[str],
    head: HeadSpec,
    source: Literal["part", "cross-fitted"],
    wanted: Wanted,
) -> tuple[Scaling, Trust]:
    """The scaling of the logits and the promises, from class indices `truth` [N] and `logits` [N, classes].

    Images with equal `folds` [N] share their groups; see `folds_of`. The figures are those of scores in which each
    fold has the scaling of the others. The thresholds belong to the scaling of all images, with which the file answers.
    """
    scaling, apart = fit_scaling(logits, truth, folds, head)
    scores = scaling.scores(logits).astype(np.float32).astype(np.float64)  # as a server's are rounded
    trust = Trust(
        calibration=Calibration.model_validate(
            {
                "images": len(truth),
                "source": source,
                "scaling": scaling.kind,
                "temperature": scaling.temperature,
                **figures(truth, apart).to_fields(),
            }
        ),
        conformal=fit_conformal(truth, scores, wanted.coverage),
        selective=fit_selective(truth, scores, wanted.accuracy),
        operating=fit_point(truth, scores, labels, wanted),
    )
    return scaling, trust


def fit_point(truth: Indices, scores: Array, labels: Sequence[str], wanted: Wanted) -> Operating | None:
    """The operating point that is wanted, or None."""
    if wanted.positive is None:
        return None
    index = list(labels).index(wanted.positive)
    return fit_operating(truth, scores, index, wanted.positive, wanted.kind, wanted.value)


def folds_of(truth: Sequence[int], groups: Sequence[object], count: int = FOLDS, seed: int = 0) -> Indices:
    """The fold of each image, 0 to `count` - 1, with whole groups and every class spread evenly over the folds.

    The rule is that of scikit-learn's StratifiedGroupKFold with shuffling. All images are in one fold if there are
    fewer groups, or fewer images of a class, than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    ids = [numbers[group] for group in groups]
    folds, sizes = np.zeros(len(truth), np.int64), np.bincount(truth)
    if min(len(numbers), sizes[sizes > 0].min()) < count:
        return folds
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed % 2**32)
    for number, (_, inside) in enumerate(splitter.split(np.zeros(len(truth)), np.array(truth), ids)):
        folds[inside] = number
    return folds
