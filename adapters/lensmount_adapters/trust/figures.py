"""How well scores agree with the truth, in four figures, each with an interval by bootstrap over the images."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from lensmount_adapters.metrics.calibration import BINS, bins_of

RESAMPLES, SEED = 1000, 0
LEVELS = (2.5, 97.5)  # the percentiles at the ends of a 95 % interval
_PIECE = 1_000_000  # draws at a time

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its 95 % interval (percentiles of 1000 resamples of the images, always the same ones).

    A resample is noisier than the sample, and noise adds to a calibration error: its interval lies a little high.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Of N images. Lower is better in each.

    `ece`: the expected calibration error in 15 bins of equal width (arXiv 1706.04599). `adaptive_ece`: the same in 15
    bins between quantiles of the confidence, so that no bin is nearly empty (arXiv 1904.01685). `brier`: the mean
    squared distance of the scores from the truth, summed over the classes; halved for two classes, as in scikit-learn.
    `log_loss`: the mean of -ln(score of the right class), in nats.
    """

    ece: Figure
    adaptive_ece: Figure
    brier: Figure
    log_loss: Figure

    def to_fields(self) -> dict[str, float | tuple[float, float]]:
        """As fields of the trust block: `ece`, `ece_interval` and so on, rounded to 6 digits."""
        found: dict[str, float | tuple[float, float]] = {}
        for each in fields(self):
            figure: Figure = getattr(self, each.name)
            found[each.name] = round(figure.value, 6)
            found[f"{each.name}_interval"] = (round(figure.low, 6), round(figure.high, 6))
        return found


def figures(truth: Indices, scores: Array) -> Figures:
    """Measure class indices `truth` [N], N >= 1, and `scores` [N, classes] in [0, 1]."""
    rows, classes = np.arange(len(truth)), scores.shape[1]
    confidence = scores.max(1)
    gap = confidence - (scores.argmax(1) == truth)  # [N]
    right = np.zeros_like(scores)
    right[rows, truth] = 1
    brier = ((scores - right) ** 2).sum(1) / (2 if classes == 2 else 1)
    log_loss = -np.log(np.clip(scores[rows, truth], 1e-12, 1))
    columns = np.zeros((len(truth), 2 * BINS + 2))  # what each image adds to each sum
    columns[rows, bins_of(confidence)] = gap
    columns[rows, BINS + _quantile_bins(confidence)] = gap
    columns[:, -2], columns[:, -1] = brier, log_loss
    return Figures(*_with_intervals(columns))


def _quantile_bins(confidence: Array) -> Indices:
    """The bin of each image, between the quantiles of all. Equal confidences share a bin."""
    edges = np.quantile(confidence, np.linspace(0, 1, BINS + 1))
    found: Indices = np.searchsorted(edges[1:-1], confidence)
    return found


def _with_intervals(columns: Array) -> list[Figure]:
    values = _of_sums(columns.sum(0)[None], len(columns))[0]
    resampled = _of_sums(_resampled_sums(columns), len(columns))
    low, high = np.percentile(resampled, LEVELS, axis=0)
    return [Figure(*map(float, triple)) for triple in zip(values, low, high, strict=True)]


def _of_sums(sums: Array, images: int) -> Array:
    """[resamples, columns] to [resamples, 4]: the mean gap of each bin counts by its images, whatever its sign."""
    parts = np.abs(sums[:, :BINS]), np.abs(sums[:, BINS : 2 * BINS])
    found: Array = np.column_stack([part.sum(1) for part in parts] + [sums[:, -2], sums[:, -1]]) / images
    return found


def _resampled_sums(columns: Array) -> Array:
    """The sums of the columns over each resample: how often it has each image, times what the image adds."""
    images = len(columns)
    draw = np.random.default_rng(SEED)
    sums, at_once = [], max(1, _PIECE // images)
    for start in range(0, RESAMPLES, at_once):
        count = min(at_once, RESAMPLES - start)
        drawn = draw.integers(0, images, (count, images)) + images * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * images).reshape(count, images)
        sums.append(times.astype(np.float64) @ columns)
    return np.concatenate(sums)
