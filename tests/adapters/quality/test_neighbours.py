"""Neighbours by features equal those of scikit-learn; outliers and pairs follow from them."""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors

from lensmount_adapters.quality.neighbours import alike_pairs, nearest_neighbours, outliers


def test_neighbours_are_those_of_scikit_learn_across_blocks() -> None:
    features = np.random.default_rng(0).normal(size=(1500, 16)).astype(np.float32)

    found = nearest_neighbours(features, k=5)

    centred = features - features.mean(axis=0)
    distances, index = NearestNeighbors(n_neighbors=6, metric="cosine").fit(centred).kneighbors(centred)
    np.testing.assert_allclose(found.similarity, 1 - distances[:, 1:], atol=1e-5)
    assert (found.index == index[:, 1:]).mean() > 0.999  # two may be equally near


def test_few_images_have_fewer_neighbours() -> None:
    found = nearest_neighbours(np.array([[0.0, 1.0], [1.0, 0.0]], np.float32))

    assert found.index.tolist() == [[1], [0]]


def test_an_image_far_from_all_others_is_the_only_outlier() -> None:
    draw = np.random.default_rng(0)
    features = draw.normal(size=(200, 32)) * 0.1 + np.eye(32)[draw.integers(0, 4, 200)] * 5
    features[7] = -3 * np.eye(32)[20]

    assert outliers(nearest_neighbours(features.astype(np.float32))).tolist() == [7]


def test_pairs_are_named_once_and_the_most_similar_first() -> None:
    features = np.random.default_rng(0).normal(size=(50, 64)).astype(np.float32)
    features[10] = features[3] * 1.01
    features[40] = features[20] + 0.1 * features[21]

    pairs = alike_pairs(nearest_neighbours(features))

    assert pairs.tolist() == [[3, 10], [20, 40]]
