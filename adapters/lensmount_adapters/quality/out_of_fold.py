"""Probabilities of a logistic head for images that it was not fitted on, with whole groups in each fold."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

FOLDS = 5
# scikit-learn's C for features of mean squared length 1: of 0.1 to 100, this found most wrong labels in the sets of
# benchmarks/labelling/label_errors.py, at 1 and 3 alike.
STRENGTH = 1.0
_ITERATIONS = 300
_TOLERANCE = 1e-3  # of the gradient; 1e-4 takes twice as long and changes no rank that matters


def out_of_fold_probabilities(
    features: np.ndarray,
    labels: np.ndarray,
    groups: Sequence[str],
    classes: int,
    seed: int = 0,
    strength: float = STRENGTH,
) -> np.ndarray:
    """Return probabilities float64 [N, classes]: each row by a head that was fitted without the image's group.

    `features` [N, D] are standardised and `strength` is divided by D, so that it means the same for any backbone. A
    class counts as much as any other, however many images it has. A row is NaN if the image cannot be checked: all
    other images of its class belong to its own fold, as with a class that has a single group. The folds come from
    scikit-learn's StratifiedGroupKFold, as C. G. Northcutt et al. (JAIR 70, 2021) ask for predictions on images that a
    model has not seen.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    scaled = standardised(features)
    probabilities = np.full((len(labels), classes), np.nan)
    for fitted, asked in group_folds(labels, groups, seed):
        known = np.unique(labels[fitted])
        checked = asked[np.isin(labels[asked], known)]
        if len(known) < 2 or not len(checked):
            continue
        head = LogisticRegression(
            C=strength / features.shape[1], class_weight="balanced", max_iter=_ITERATIONS, tol=_TOLERANCE
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a head that is nearly fitted ranks as well
            head.fit(scaled[fitted], labels[fitted])
        probabilities[checked] = 0.0
        probabilities[np.ix_(checked, known)] = head.predict_proba(scaled[checked])
    return probabilities


def group_folds(labels: np.ndarray, groups: Sequence[str], seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (fitted, asked) indices of up to FOLDS folds, or none if all images are of one group."""
    from sklearn.model_selection import StratifiedGroupKFold

    codes = np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1]
    folds = min(FOLDS, int(codes.max()) + 1 if len(codes) else 0)
    if folds < 2:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer images than folds is missing in some of them
        split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        try:
            return [(fitted, asked) for fitted, asked in split.split(codes, labels, codes) if len(asked)]
        except ValueError:  # every class has fewer images than there are folds
            return []


def standardised(features: np.ndarray) -> np.ndarray:
    """Return the features with mean 0 and standard deviation 1 in each column; a constant column becomes 0."""
    features = np.asarray(features, np.float32)
    spread = features.std(axis=0)
    scaled: np.ndarray = (features - features.mean(axis=0)) / np.where(spread > 1e-6, spread, np.inf)
    return scaled
