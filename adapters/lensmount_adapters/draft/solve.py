"""Solves a linear head on features: multinomial logistic regression with L2, all classes counting alike.

With N images of D features and more features than images, the solution lies in the space that the images span. So the
problem is solved there, in at most N numbers per class, and is the same one: the penalty does not change under a
rotation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

# Weight of the loss against the penalty: scikit-learn's C for features of mean squared length 1, with the weights of
# the images scaled to a mean of 1. docs/decisions.md has the figures of other values and of other solvers.
STRENGTH = 10.0
FOLDS = 5
MOST_STEPS = 200
_TOLERANCE = 1e-8  # of the gradient of a loss near 1
_SMALLEST_SPREAD = 1e-6  # a column below it is constant: its weight is 0
_SMALLEST_VALUE = 1e-12  # of the Gram matrix, as a share of its largest eigenvalue


@dataclass(frozen=True, slots=True, eq=False)
class Solved:
    """Logits are `features @ weight.T + bias`: `weight` [classes, D], `bias` [classes]."""

    weight: Array
    bias: Array

    def logits(self, features: Array) -> Array:
        return features @ self.weight.T + self.bias


def solve(features: Array, labels: Indices, classes: int, strength: float = STRENGTH) -> Solved:
    """The head of least loss for `features` [N, D] and `labels` [N], of which each class has some.

    Minimises mean(w * cross entropy) + |W|^2 / (2 * strength * N) over W and the bias, for standardised features of
    mean squared length 1. The weights w make all classes count alike.
    """
    mean, spread = features.mean(0), features.std(0)
    scale = np.where(spread > _SMALLEST_SPREAD, spread, np.inf) * np.sqrt(features.shape[1])
    z = (features - mean) / scale  # [N, D]
    values, vectors = np.linalg.eigh(z @ z.T)
    kept = values > _SMALLEST_VALUE * max(float(values[-1]), 1e-300)
    length, basis = np.sqrt(values[kept]), vectors[:, kept]
    inner, bias = _minimise(basis * length, labels, classes, strength)
    weight = ((z.T @ (basis / length)) @ inner).T / scale  # [classes, D]
    return Solved(weight, bias - weight @ mean)


def _minimise(coordinates: Array, labels: Indices, classes: int, strength: float) -> tuple[Array, Array]:
    """The weights [r, classes] and the bias [classes] for images at `coordinates` [N, r].

    By SciPy's L-BFGS: the first use of torch's own imports TorchDynamo, which takes longer than everything else.
    """
    from scipy.optimize import minimize  # takes a third of a second, and only drafts need it

    images, size = coordinates.shape
    counts = np.bincount(labels, minlength=classes)
    share = 1 / (counts[labels] * classes)  # [N], sums to 1
    right = np.eye(classes)[labels]  # [N, classes]

    def loss(flat: Array) -> tuple[float, Array]:
        """The loss and its gradient at the weights and the bias, in one vector."""
        inner, bias = flat[: size * classes].reshape(size, classes), flat[size * classes :]
        probabilities = log_softmax(coordinates @ inner + bias)
        total = -share @ (probabilities * right).sum(1) + (inner**2).sum() / (2 * strength * images)
        pull = share[:, None] * (np.exp(probabilities) - right)
        slope = coordinates.T @ pull + inner / (strength * images)
        return float(total), np.concatenate([slope.ravel(), pull.sum(0)])

    options = {"maxiter": MOST_STEPS, "maxcor": 20, "gtol": _TOLERANCE, "ftol": 0.0}
    found = minimize(loss, np.zeros((size + 1) * classes), jac=True, method="L-BFGS-B", options=options).x
    return found[: size * classes].reshape(size, classes), found[size * classes :]


def log_softmax(logits: Array) -> Array:
    """The logarithm of each row's probabilities."""
    shifted = logits - logits.max(1, keepdims=True)
    logs: Array = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return logs


def cross_validated(
    features: Array, labels: Indices, groups: Indices, classes: int, strength: float = STRENGTH
) -> Array | None:
    """Logits [N, classes] of each image by a head that was solved without its group; None if that is not possible.

    It is not if a class has a single group: no fold could have it on both sides.
    """
    folds = group_folds(labels, groups, classes)
    if folds is None:
        return None
    logits = np.empty((len(labels), classes))
    for fold in np.unique(folds):
        held = folds == fold
        logits[held] = solve(features[~held], labels[~held], classes, strength).logits(features[held])
    return logits


def group_folds(labels: Indices, groups: Indices, classes: int) -> Indices | None:
    """The fold [N] of each image: up to FOLDS of them, with whole groups and every class in each as far as they allow.

    Groups go one by one, the largest first, to the fold that has fewest images of their classes.
    """
    table = np.zeros((int(groups.max()) + 1, classes))
    np.add.at(table, (groups, labels), 1)
    if min(np.count_nonzero(table, axis=0)) < 2:
        return None
    number = min(FOLDS, int(np.count_nonzero(table, axis=0).min()))
    full, total = np.zeros((number, classes)), table.sum(0)
    fold_of = np.zeros(len(table), np.int64)
    for group in np.argsort(-table.sum(1), kind="stable"):
        load = (full / total) @ (table[group] > 0) + 1e-6 * full.sum(1)
        fold_of[group] = int(np.argmin(load))
        full[fold_of[group]] += table[group]
    folds: Indices = fold_of[groups]
    present = [np.unique(labels[folds != fold]) for fold in range(number)]
    return folds if all(len(each) == classes for each in present) else None


def balanced_accuracy(labels: Indices, logits: Array) -> float:
    """The mean recall of the classes that occur."""
    right = logits.argmax(1) == labels
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


def temperature_of(labels: Indices, logits: Array) -> float:
    """What the logits are divided by so that their cross entropy is least, in [0.05, 20]; golden section search."""
    counts = np.bincount(labels)
    share = 1 / (counts[labels] * np.count_nonzero(counts))
    rows = np.arange(len(labels))

    def loss(exponent: float) -> float:
        return -float(share @ log_softmax(logits / np.exp(exponent))[rows, labels])

    low, high = np.log(0.05), np.log(20.0)
    step = (np.sqrt(5) - 1) / 2
    for _ in range(40):  # the interval is then 1e-8 wide
        left, right = high - step * (high - low), low + step * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return float(np.exp((low + high) / 2))
