"""Find labels that are likely to be wrong: confident learning on out-of-fold probabilities.

The method is that of C. G. Northcutt, L. Jiang and I. L. Chuang, "Confident Learning: Estimating Uncertainty in Dataset
Labels", JAIR 70, 2021. Ranking and flags are those of cleanlab 2.9: `get_label_quality_scores` (self-confidence) and
`find_label_issues(filter_by="confident_learning")`. It is written here because it is 15 lines of numpy, and cleanlab
would bring pandas and tqdm to every server.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_LOWEST_THRESHOLD = 2e-6  # so that a class of which no model is sure does not take every image
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class LabelIssues:
    """What the probabilities say about N given labels.

    `quality` [N] is the probability of the given label: the lower, the likelier the label is wrong. `suggested` [N] is
    the class that the image is most likely to be of. `flags` [N] are True where confident learning finds another class.
    """

    quality: np.ndarray
    suggested: np.ndarray
    flags: np.ndarray

    def ranked(self) -> np.ndarray:
        """The indices of all images, the most suspicious first."""
        return np.argsort(self.quality, kind="stable")


def find_label_issues(labels: np.ndarray, probabilities: np.ndarray) -> LabelIssues:
    """Check `labels` int [N] by `probabilities` [N, classes] of models that never saw the image.

    A class is confident for an image if its probability reaches the class's threshold: the mean probability of the
    class over the images that carry its label. An image is flagged if a class other than its label is confident, is the
    likeliest of the confident ones, and no class is likelier than it overall.
    """
    rows = np.arange(len(labels))
    given = probabilities[rows, labels]
    likeliest = probabilities.argmax(axis=1)
    nudged = probabilities.copy()
    nudged[rows, labels] += _ROUNDING  # a tie is in favour of the label
    confident = probabilities >= _thresholds(labels, probabilities) - _ROUNDING
    several = confident.sum(axis=1) > 1
    true_class = np.where(several, likeliest, confident.argmax(axis=1))
    flags = confident.any(axis=1) & (true_class != labels) & (nudged.argmax(axis=1) != labels)
    return LabelIssues(given, likeliest, flags)


def _thresholds(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The mean self-confidence of each class [classes]; above 1 for a class without an image."""
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    sums = np.bincount(labels, probabilities[np.arange(len(labels)), labels], minlength=probabilities.shape[1])
    means = np.where(counts > 0, sums / np.maximum(1, counts), 2.0)
    return np.maximum(means, _LOWEST_THRESHOLD)
