"""Each strategy picks the images that its paper says, compared with a plain computation; no image is picked twice."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics import pairwise_distances

from lensmount_adapters.active.strategies import FIRST_LABELS, STRATEGIES, Pool, choose


def random_pool(images: int = 60, classes: int = 3, labelled: int = 8, seed: int = 0) -> Pool:
    rng = np.random.default_rng(seed)
    return Pool(
        features=rng.normal(size=(images, 12)).astype(np.float32),
        probabilities=rng.dirichlet(np.full(classes, 0.7), size=images),
        labelled=rng.normal(size=(labelled, 12)).astype(np.float32),
    )


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize(("images", "n"), [(60, 10), (7, 7), (5, 9), (1, 1), (40, 1), (40, 39)])
@pytest.mark.parametrize("labelled", [0, 8, 40])
def test_the_asked_number_of_different_images_is_chosen(name: str, images: int, n: int, labelled: int) -> None:
    chosen = choose(name, random_pool(images, labelled=labelled), n)

    assert len(chosen) == len(set(chosen.tolist())) == min(n, images)
    assert chosen.dtype == np.int64
    assert set(chosen.tolist()) <= set(range(images))


@pytest.mark.parametrize("name", STRATEGIES)
def test_copies_of_one_image_are_chosen_without_an_error(name: str) -> None:
    pool = Pool(np.ones((20, 4), np.float32), np.full((20, 2), 0.5), np.ones((3, 4), np.float32))

    assert len(set(choose(name, pool, 6).tolist())) == 6


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_same_seed_gives_the_same_images(name: str) -> None:
    pool = random_pool()

    assert choose(name, pool, 10, seed=3).tolist() == choose(name, pool, 10, seed=3).tolist()


@pytest.mark.parametrize("name", STRATEGIES)
def test_an_empty_pool_and_a_single_class_are_no_errors(name: str) -> None:
    empty = Pool(np.empty((0, 4), np.float32), np.empty((0, 2)), np.empty((0, 4), np.float32))
    single = Pool(np.eye(4, dtype=np.float32), np.ones((4, 1)), np.empty((0, 4), np.float32))

    assert choose(name, empty, 3).tolist() == []
    assert len(choose(name, single, 3)) == 3


def test_probabilities_of_another_number_of_images_are_refused() -> None:
    with pytest.raises(ValueError, match="found 2 rows of probabilities, expected one for each of 4"):
        choose("margin", Pool(np.eye(4), np.ones((2, 2)), np.eye(4)), 2)


def test_margin_takes_the_smallest_differences_of_the_two_best_classes() -> None:
    pool = random_pool(images=200, classes=5)
    differences = [sorted(row)[-1] - sorted(row)[-2] for row in pool.probabilities.tolist()]

    assert choose("margin", pool, 20).tolist() == sorted(range(200), key=differences.__getitem__)[:20]


def test_entropy_takes_the_largest_entropies_of_scipy() -> None:
    pool = random_pool(images=200, classes=5)
    entropies = scipy_entropy(pool.probabilities, axis=1)

    assert choose("entropy", pool, 20).tolist() == sorted(range(200), key=lambda index: -entropies[index])[:20]


def test_a_probability_of_zero_has_no_entropy() -> None:
    pool = Pool(np.eye(3), np.array([[1.0, 0.0], [0.5, 0.5], [0.9, 0.1]]), np.empty((0, 3)))

    assert choose("entropy", pool, 3).tolist() == [1, 2, 0]


def blobs(sizes: list[int], spread: float = 0.05, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points around orthogonal unit vectors, and the number of each point's blob."""
    rng = np.random.default_rng(seed)
    centres = np.eye(len(sizes), 8)
    points = [centre + spread * rng.normal(size=(size, 8)) for centre, size in zip(centres, sizes, strict=True)]
    return np.concatenate(points).astype(np.float32), np.repeat(np.arange(len(sizes)), sizes)


def test_diverse_takes_one_of_each_group_of_uncertain_images() -> None:
    features, blob = blobs([5, 5, 5, 5, 60])
    margins = np.where(blob < 4, 0.1, 0.9)  # the last group is sure
    probabilities = np.stack([(1 + margins) / 2, (1 - margins) / 2], axis=1)

    chosen = choose("diverse", Pool(features, probabilities, features[:0]), 4)

    assert sorted(blob[chosen].tolist()) == [0, 1, 2, 3]


def test_diverse_asks_only_about_the_smallest_margins() -> None:
    pool = random_pool(images=300, classes=4)
    ordered = np.sort(pool.probabilities, axis=1)
    smallest = np.argsort(ordered[:, -1] - ordered[:, -2])[:25]

    assert set(choose("diverse", pool, 5).tolist()) <= set(smallest.tolist())


def test_typical_asks_first_about_large_groups_without_a_label() -> None:
    features, blob = blobs([40, 30, 20, 10])
    labelled = features[blob == 0][:1]
    rest = features[1:]

    chosen = choose("typical", Pool(rest, np.full((len(rest), 2), 0.5), labelled), 3)

    assert sorted(blob[1:][chosen].tolist()) == [1, 2, 3]


def test_the_typical_image_is_the_one_whose_neighbours_are_nearest() -> None:
    features, _ = blobs([30], spread=0.3)
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    distances = pairwise_distances(scaled / np.linalg.norm(scaled, axis=1, keepdims=True))
    spread = [math.fsum(sorted(row)[1:21]) / 20 for row in distances.tolist()]

    chosen = choose("typical", Pool(features, np.ones((30, 1)), features[:0]), 1)

    assert chosen.tolist() == [int(np.argmin(spread))]


@pytest.mark.parametrize(("labelled", "like"), [(FIRST_LABELS - 1, "typical"), (FIRST_LABELS, "diverse")])
def test_staged_relies_on_the_model_only_after_the_first_labels(labelled: int, like: str) -> None:
    pool = random_pool(labelled=labelled)

    assert choose("staged", pool, 5).tolist() == choose(like, pool, 5).tolist()


def test_one_cluster_of_a_large_pool_takes_little_memory() -> None:
    pool = random_pool(images=4000, labelled=0)
    choose("typical", random_pool(), 1)  # the imports
    tracemalloc.start()
    try:
        choose("typical", pool, 1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6  # all distances at once are 64 MB
