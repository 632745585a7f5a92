"""Ways to choose the images that a person labels next: arrays in, indices out.

`margin` and `entropy` ask about the images of which the model is least sure. `diverse` does so as well, and avoids
images that resemble each other. `typical` needs no model: it asks about dense regions without a label. `staged` is
`typical` for the first labels and `diverse` for the rest. benchmarks/labelling/active_learning.py compares them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

FIRST_LABELS = 30  # from which on `staged` relies on the model; with fewer, its margins mean little
CANDIDATES = 5  # uncertain images for each one that `diverse` chooses: beta of Zhdanov
NEIGHBOURS = 20  # of a typical image within its cluster: K of TypiClust
MOST_CLUSTERS = 500  # likewise
SMALL_CLUSTER = 5  # images; smaller ones are asked last, as in TypiClust
_DIMENSIONS = 64  # principal components in which clusters are formed
_ROWS = 256  # of distances in memory at a time: one cluster may hold the whole pool


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """N unlabelled images and M labelled ones, as a strategy sees them.

    `features` float32 [N, D] and `labelled` float32 [M, D] are pooled features of the frozen backbone.
    `probabilities` float [N, K] are those of a model for K classes; each row sums to 1.
    """

    features: np.ndarray
    probabilities: np.ndarray
    labelled: np.ndarray


Strategy = Callable[[Pool, int, np.random.Generator], np.ndarray]
"""From a pool, a number n <= N and a source of chance to n different indices, the most useful first."""


def choose(name: str, pool: Pool, n: int, seed: int = 0) -> np.ndarray:
    """Return up to `n` different indices into the pool, int64, the most useful first.

    `name` is one of STRATEGIES. The same seed and the same pool give the same images. Raises KeyError, ValueError.
    """
    images = len(pool.features)
    if len(pool.probabilities) != images:
        raise ValueError(f"found {len(pool.probabilities)} rows of probabilities, expected one for each of {images}")
    if n < 1 or not images:
        return np.empty(0, np.int64)
    return STRATEGIES[name](pool, min(n, images), np.random.default_rng(seed))


def margin(pool: Pool, n: int, rng: np.random.Generator) -> np.ndarray:
    """The smallest differences between the two best classes (T. Scheffer, C. Decomain and S. Wrobel, IDA 2001)."""
    return _first(_margins(pool), n)


def entropy(pool: Pool, n: int, rng: np.random.Generator) -> np.ndarray:
    """The largest entropies -sum p log p (B. Settles, Active Learning Literature Survey, 2009)."""
    positive = np.clip(pool.probabilities, 1e-12, 1.0)
    return _first((pool.probabilities * np.log(positive)).sum(axis=1), n)


def diverse(pool: Pool, n: int, rng: np.random.Generator) -> np.ndarray:
    """One image of each of n clusters of uncertain images (F. Zhdanov, arXiv 1901.05954).

    The 5 n images with the smallest margins form n clusters, in which an image weighs the more, the smaller its margin
    is. The image nearest to each centre is chosen. The smallest margins come first.
    """
    from sklearn.cluster import KMeans

    margins = _margins(pool)
    candidates = _first(margins, CANDIDATES * n)
    if len(candidates) <= n:
        return candidates
    seed = int(rng.integers(2**31))
    points = _reduced(pool.features[candidates], seed)
    weights = 1.0 - margins[candidates] + 1e-3
    with _copies_allowed():
        clusters = KMeans(n, n_init=3, random_state=seed).fit(points, None, weights)
    distances = np.linalg.norm(points - clusters.cluster_centers_[clusters.labels_], axis=1)
    chosen = np.array(
        [
            min(np.flatnonzero(clusters.labels_ == cluster), key=distances.__getitem__)
            for cluster in range(n)
            if (clusters.labels_ == cluster).any()
        ]
    )
    others = np.setdiff1d(np.arange(len(candidates)), chosen)  # copies of one image give fewer clusters
    best: np.ndarray = candidates[np.concatenate([np.sort(chosen), others])[:n]]
    return best


def typical(pool: Pool, n: int, rng: np.random.Generator) -> np.ndarray:
    """TypiClust (G. Hacohen, A. Dekel and D. Weinshall, ICML 2022): the most typical image of each large cluster.

    All images, labelled or not, form M + n clusters. Those with the fewest labelled images come first, of these the
    largest. Typicality is the inverse of the mean distance to the 20 nearest images of the cluster.
    """
    from sklearn.cluster import MiniBatchKMeans

    seed = int(rng.integers(2**31))
    points = _reduced(np.concatenate([pool.features, pool.labelled]), seed)
    images, labelled = len(pool.features), len(pool.labelled)
    count = min(labelled + n, MOST_CLUSTERS, len(points))
    with _copies_allowed():
        clusters = MiniBatchKMeans(count, n_init=3, random_state=seed, batch_size=1024).fit_predict(points)
    sizes = np.bincount(clusters, minlength=count)
    covered = np.bincount(clusters[images:], minlength=count)
    waiting = {
        cluster: _most_typical_first(points, np.flatnonzero(clusters == cluster), images) for cluster in range(count)
    }
    chosen: list[int] = []
    while len(chosen) < n:
        open_ = [cluster for cluster, members in waiting.items() if members]
        best = min(open_, key=lambda c: (sizes[c] < SMALL_CLUSTER, covered[c], -sizes[c]))
        chosen.append(waiting[best].pop(0))
        covered[best] += 1
    return np.array(chosen, np.int64)


def staged(pool: Pool, n: int, rng: np.random.Generator) -> np.ndarray:
    """`typical` until there are 30 labelled images, then `diverse`."""
    return (typical if len(pool.labelled) < FIRST_LABELS else diverse)(pool, n, rng)


STRATEGIES: Mapping[str, Strategy] = {
    "margin": margin,
    "entropy": entropy,
    "diverse": diverse,
    "typical": typical,
    "staged": staged,
}


def _margins(pool: Pool) -> np.ndarray:
    ordered = np.sort(pool.probabilities, axis=1)
    margins: np.ndarray = ordered[:, -1] - (ordered[:, -2] if ordered.shape[1] > 1 else 0.0)
    return margins


def _first(badness: np.ndarray, n: int) -> np.ndarray:
    """The indices of the `n` smallest values; of equal ones, the first."""
    order: np.ndarray = np.argsort(badness, kind="stable")[:n]
    return order.astype(np.int64)


def _reduced(features: np.ndarray, seed: int) -> np.ndarray:
    """The standardised features on the unit sphere, by their first principal components."""
    from sklearn.utils.extmath import randomized_svd

    features = np.asarray(features, np.float32)
    spread = features.std(axis=0)
    points = (features - features.mean(axis=0)) / np.where(spread > 1e-6, spread, np.inf)
    points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    left, sizes, _ = randomized_svd(points - points.mean(axis=0), min(_DIMENSIONS, *points.shape), random_state=seed)
    reduced: np.ndarray = left * sizes
    return reduced


@contextmanager
def _copies_allowed() -> Iterator[None]:
    """Copies of one image give fewer clusters than asked for, of which scikit-learn warns."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def _most_typical_first(points: np.ndarray, members: np.ndarray, images: int) -> list[int]:
    """The unlabelled members of a cluster (those below `images`), by their mean distance to their neighbours in it."""
    unlabelled = members[members < images]
    if len(members) < 2:
        return [int(index) for index in unlabelled]
    own = points[members]
    squared = (own**2).sum(axis=1)
    k = min(NEIGHBOURS, len(members) - 1)
    spread = np.empty(len(members), own.dtype)
    for start in range(0, len(members), _ROWS):
        rows = slice(start, start + _ROWS)
        distances = np.sqrt(np.maximum(squared[rows, None] + squared[None, :] - 2 * own[rows] @ own.T, 0.0))
        spread[rows] = np.sort(np.partition(distances, k, axis=1)[:, : k + 1], axis=1)[:, 1:].mean(axis=1)
    order = members[np.argsort(spread, kind="stable")]
    return [int(index) for index in order if index < images]
