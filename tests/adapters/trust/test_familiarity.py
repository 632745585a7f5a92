"""Distances are compared with scikit-learn's covariance inverted in float64, quantiles with images held out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf

from lensmount_adapters.adapter.rounding import rounded
from lensmount_adapters.adapter.trust import Trust
from lensmount_adapters.adapter.trust_check import MAX_BYTES, AdapterTrust
from lensmount_adapters.trust.distance import distances, percentile_of
from lensmount_adapters.trust.familiarity import FLAG, Pooled, fit_familiarity, fit_statistics, why_not

SPACE = f"sha256:{64 * '0'}|blocks_3_0|mean"


def drawn(images: int, width: int, seed: int = 0, classes: int = 3, group_of: int = 1) -> Pooled:
    """Classes with means of their own, and one covariance whose directions differ in size a hundredfold."""
    shape = np.random.default_rng(99)
    spread = np.linalg.qr(shape.standard_normal((width, width)))[0] * np.geomspace(1, 0.01, width)
    means = 2 * shape.standard_normal((classes, width))
    random = np.random.default_rng(seed)
    label = np.arange(images) % classes
    vectors = means[label] + random.standard_normal((images, width)) @ spread.T
    return Pooled(vectors, np.arange(images), label, np.arange(images) // group_of)


def by_inverse(means: np.ndarray, covariance: np.ndarray, x: np.ndarray) -> np.ndarray:
    inverse = np.linalg.inv(covariance)
    nearest: np.ndarray = np.min([np.einsum("ni,ij,nj->n", x - mean, inverse, x - mean) for mean in means], axis=0)
    return nearest


@pytest.mark.parametrize(("images", "width"), [(60, 8), (300, 40), (90, 60)])
def test_the_distance_is_mahalanobis_with_the_covariance_of_ledoit_and_wolf(images: int, width: int) -> None:
    known, asked = drawn(images, width), drawn(50, width, seed=1).vectors
    means = np.stack([known.vectors[known.label == label].mean(0) for label in range(3)])
    covariance = LedoitWolf(assume_centered=True).fit(known.vectors - means[known.label]).covariance_

    found = distances(fit_statistics(known.vectors, known.label), asked)

    assert np.allclose(found, by_inverse(means, covariance, asked), rtol=1e-6)


@pytest.mark.parametrize(("images", "width"), [(400, 150), (45, 200)], ids=["many images", "fewer images than numbers"])
def test_beyond_64_directions_all_others_share_the_variance_that_remains(images: int, width: int) -> None:
    known, asked = drawn(images, width), drawn(50, width, seed=1).vectors
    means = np.stack([known.vectors[known.label == label].mean(0) for label in range(3)])
    full = LedoitWolf(assume_centered=True).fit(known.vectors - means[known.label]).covariance_
    variance, directions = np.linalg.eigh(full)
    kept = min(64, images)
    variance[:-kept] = variance[:-kept].mean()

    statistics = fit_statistics(known.vectors, known.label)

    assert len(statistics.scales) == kept
    assert np.allclose(statistics.basis @ statistics.basis.T, np.eye(kept), atol=1e-5)
    expected = by_inverse(means, directions * variance @ directions.T, asked)
    assert np.allclose(distances(statistics, asked), expected, rtol=1e-6)


def trust_of(pooled: Pooled, classes: int = 3) -> AdapterTrust:
    familiarity, statistics = fit_familiarity(pooled, classes, SPACE)
    return AdapterTrust(Trust(familiarity=familiarity), statistics)


def test_new_images_of_the_same_kind_are_flagged_as_often_as_the_percentile_says() -> None:
    trust, new = trust_of(drawn(600, 40)), drawn(2_000, 40, seed=1).vectors

    percentiles = np.array([percentile_of(trust, vector) for vector in new])

    assert 0.5 * (100 - FLAG) < 100 * (percentiles >= FLAG).mean() < 2 * (100 - FLAG)
    assert 45 < np.median(percentiles) < 55


def test_images_of_another_kind_are_at_the_top() -> None:
    trust = trust_of(drawn(300, 40))

    for other in 3 * np.random.default_rng(5).standard_normal((20, 40)):
        assert percentile_of(trust, other) == 100


def test_images_of_one_group_are_held_out_together() -> None:
    apart = drawn(100, 40)
    two = np.repeat(np.arange(100), 2)
    twice = Pooled(apart.vectors[two], two, apart.label[two], apart.group[two])

    grouped = fit_familiarity(twice, 3, SPACE)[0]
    leaking = fit_familiarity(replace(twice, group=np.arange(200)), 3, SPACE)[0]

    assert grouped.images == leaking.images == 100
    assert np.median(leaking.quantiles) < 0.85 * np.median(grouped.quantiles)


def test_the_percentile_is_between_that_of_the_neighbouring_quantiles() -> None:
    pooled = drawn(300, 20)
    trust = trust_of(pooled)
    assert trust.statistics is not None
    assert trust.block.familiarity is not None
    quantiles = trust.block.familiarity.quantiles

    for vector in drawn(50, 20, seed=2).vectors:
        (distance,) = distances(trust.statistics, vector[None])
        percentile = percentile_of(trust, vector)
        assert percentile is not None
        if quantiles[0] < distance < quantiles[-1]:
            assert quantiles[int(percentile)] <= distance <= quantiles[int(percentile) + 1]


def test_nothing_is_said_without_statistics_or_without_activations() -> None:
    pooled = drawn(100, 8)
    trust = trust_of(pooled)

    assert percentile_of(None, pooled.vectors[0]) is None
    assert percentile_of(trust, None) is None
    assert percentile_of(replace(trust, statistics=None), pooled.vectors[0]) is None


@pytest.mark.parametrize("number", [np.nan, np.inf, 3e38])
def test_activations_that_are_not_finite_are_as_unfamiliar_as_can_be(number: float) -> None:
    assert percentile_of(trust_of(drawn(100, 8)), np.full(8, number, np.float32)) == 100


@pytest.mark.parametrize(("classes", "width"), [(2, 80), (3, 2048), (100, 512), (40, 2048)])
def test_the_statistics_take_at_most_200_kb_in_the_file(classes: int, width: int) -> None:
    vectors, label = np.random.default_rng(0).standard_normal((4 * classes, width)), np.arange(4 * classes) % classes

    stored, _ = rounded(fit_statistics(vectors, label).tensors(), torch.float16)

    assert sum(tensor.nbytes for tensor in stored.values()) <= MAX_BYTES


def test_rounding_to_float16_moves_no_percentile_by_more_than_one() -> None:
    pooled = drawn(500, 80)
    trust = trust_of(pooled)
    assert trust.statistics is not None
    tensors, _ = rounded(trust.statistics.tensors(), torch.float16)
    read = {name.removeprefix("trust."): tensor.float().numpy() for name, tensor in tensors.items()}
    stored = replace(trust, statistics=replace(trust.statistics, means=read["means"], basis=read["basis"]))

    for vector in drawn(100, 80, seed=3).vectors:
        before, after = percentile_of(trust, vector), percentile_of(stored, vector)
        assert before is not None
        assert after is not None
        assert abs(before - after) < 1


@pytest.mark.parametrize(
    ("pooled", "classes", "reason"),
    [
        (drawn(49, 8), 3, "49 images, 50 are needed"),
        (replace(drawn(60, 8), group=np.zeros(60, np.int64)), 3, "all images are of one group"),
        (drawn(60, 8), 4, "a class has 0 images, 2 are needed"),
        (drawn(1000, 200, classes=500), 500, "500 classes of 200 numbers take more than 200000 bytes"),
    ],
    ids=["images", "groups", "a class", "size"],
)
def test_too_few_images_and_too_many_classes_are_said(pooled: Pooled, classes: int, reason: str) -> None:
    found = why_not(pooled, classes)

    assert found is not None
    assert reason in found
    assert why_not(drawn(50, 8), 3) is None


def test_equal_images_and_dead_channels_are_no_division_by_zero() -> None:
    pooled = drawn(60, 8)
    dead = replace(pooled, vectors=pooled.vectors * (np.arange(8) < 4))
    equal = replace(pooled, vectors=np.ones((60, 8)))

    for each in (dead, equal):
        trust = trust_of(each)
        assert percentile_of(trust, each.vectors[0]) is not None
        assert percentile_of(trust, each.vectors[0] + 1) == 100
