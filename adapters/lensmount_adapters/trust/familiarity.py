"""Fits what tells unfamiliar images: class means and a shared covariance of pooled trunk activations.

The covariance is shrunk as by Ledoit and Wolf, and kept as its largest directions and one deviation for all others
(distance.py has the formula). The percentile of a distance is taken among the distances of held-out images, each
measured with the statistics of other groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.model_selection import GroupKFold

from lensmount_adapters.adapter.trust import QUANTILES, Familiarity
from lensmount_adapters.adapter.trust_check import MAX_BYTES, SMALLEST_SCALE, Statistics
from lensmount_adapters.trust.distance import distances

FLAG = 98.0  # the percentile from which on an image is flagged
FOLDS = 5
MOST_DIRECTIONS = 64
LEAST_IMAGES = 50  # of which the 98th percentile leaves out one
LEAST_OF_A_CLASS = 2

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Pooled:
    """Pooled activations `vectors` [rows, D] of images and of slightly changed copies of them.

    Row i shows the image `image[i]`, which is of the class `label[i]` and of the group `group[i]`. Images of a group
    are held out together.
    """

    vectors: Array
    image: Indices
    label: Indices
    group: Indices


def why_not(pooled: Pooled, classes: int, itemsize: int = 2) -> str | None:
    """Why what is unfamiliar cannot be told from these images; None if it can.

    `itemsize` is that of the numbers in the file, 2 bytes in float16.
    """
    images = len(np.unique(pooled.image))
    if images < LEAST_IMAGES:
        return f"{images} images, {LEAST_IMAGES} are needed"
    if len(np.unique(pooled.group)) < 2:
        return "all images are of one group, 2 groups are needed"
    counts = [len(np.unique(pooled.image[pooled.label == label])) for label in range(classes)]
    if min(counts) < LEAST_OF_A_CLASS:
        return f"a class has {min(counts)} images, {LEAST_OF_A_CLASS} are needed"
    if _directions(classes, pooled.vectors.shape[1], itemsize) < 1:
        return f"{classes} classes of {pooled.vectors.shape[1]} numbers take more than {MAX_BYTES} bytes"
    return None


def fit_familiarity(pooled: Pooled, classes: int, space: str, itemsize: int = 2) -> tuple[Familiarity, Statistics]:
    """The statistics of all images, and the quantiles of the distances of held-out ones. `why_not` must be None."""
    x = pooled.vectors
    held_out = np.empty(len(x))
    folds = GroupKFold(min(FOLDS, len(np.unique(pooled.group))))
    for inside, outside in folds.split(x, groups=pooled.group):
        held_out[outside] = distances(fit_statistics(x[inside], pooled.label[inside], itemsize), x[outside])
    quantiles = np.quantile(held_out, np.linspace(0, 1, QUANTILES))
    familiarity = Familiarity(
        space=space,
        images=len(np.unique(pooled.image)),
        quantiles=tuple(float(f"{value:.6g}") for value in quantiles),
        flag=FLAG,
    )
    return familiarity, fit_statistics(x, pooled.label, itemsize)


def fit_statistics(x: Array, label: Indices, itemsize: int = 2) -> Statistics:
    """One mean for each class that has rows, and the covariance of the rows `x` [rows, D] about their class's mean."""
    present, place = np.unique(label, return_inverse=True)
    means = np.stack([x[label == each].mean(0) for each in present])  # [classes, D]
    about = x - means[place]  # [rows, D]
    rows, width = about.shape
    shrinkage = ledoit_wolf_shrinkage(about, assume_centered=True)
    _, singular, basis = np.linalg.svd(about, full_matrices=False)
    variance = np.zeros(width)  # along the rows of `basis`, the largest first; zero along all others
    variance[: len(singular)] = singular**2 / rows
    shrunk = (1 - shrinkage) * variance + shrinkage * variance.mean()
    k = min(_directions(len(present), width, itemsize), len(singular))
    rest = shrunk[k:].mean() if k < width else shrunk[-1]
    scales = np.maximum(np.sqrt(np.append(shrunk[:k], rest)), SMALLEST_SCALE)
    return Statistics(
        means.astype(np.float32), basis[:k].astype(np.float32), scales[:k].astype(np.float32), float(scales[k])
    )


def _directions(classes: int, width: int, itemsize: int) -> int:
    """How many directions fit into the file together with the means."""
    room = MAX_BYTES - 4 * (MOST_DIRECTIONS + 1)  # the scales stay in float32
    return min(MOST_DIRECTIONS, width, room // (itemsize * width) - classes)
