"""Classification: the loss of soft labels, weights against rare classes, and the score of an epoch."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lensmount_adapters import Backbone
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.objective import Batch, Classification
from lensmount_adapters.training.training_data import TrainingData, load_training_data


@pytest.fixture
def data(config: TrainingConfig, backbone: Backbone) -> TrainingData:
    return load_training_data(config, backbone)


def batch(targets: list[list[float]], truth: list[int] | None = None) -> Batch:
    return Batch(torch.zeros(len(targets), 1), torch.tensor(targets), torch.tensor(truth or [0] * len(targets)))


def test_the_loss_is_the_cross_entropy_of_the_soft_labels(config: TrainingConfig, data: TrainingData) -> None:
    """With logits (ln 3, 0) the probabilities are 3/4 and 1/4."""
    plain = Classification(replace(config, label_smoothing=0.0, class_weights="none"), data)
    logits = torch.tensor([[math.log(3), 0.0]])

    assert float(plain.loss(logits, batch([[1.0, 0.0]]))) == pytest.approx(-math.log(0.75), rel=1e-5)
    assert float(plain.loss(logits, batch([[0.5, 0.5]]))) == pytest.approx(-math.log(0.75 * 0.25) / 2, rel=1e-5)
    smooth = Classification(replace(config, label_smoothing=0.2, class_weights="none"), data)
    expected = -0.9 * math.log(0.75) - 0.1 * math.log(0.25)  # a tenth of the label goes to the other class
    assert float(smooth.loss(logits, batch([[1.0, 0.0]]))) == pytest.approx(expected, rel=1e-5)


def test_a_rare_class_counts_as_much_as_a_frequent_one(
    config: TrainingConfig, backbone: Backbone, draw_folder: Any, tmp_path: Path
) -> None:
    """The losses of one image of each class have the ratio of the other way round of their numbers."""
    rare = replace(config, data=draw_folder(tmp_path / "rare", disc=32, bar=8), label_smoothing=0.0)
    data = load_training_data(rare, backbone)
    counts = torch.bincount(data.train_labels)
    even = torch.zeros(1, 2)

    one, other = (float(Classification(rare, data).loss(even, batch([target]))) for target in ([1.0, 0.0], [0.0, 1.0]))

    assert counts[0] < counts[1]
    assert one / other == pytest.approx(float(counts[1] / counts[0]), rel=1e-5)


def test_an_epoch_is_scored_by_balanced_accuracy(config: TrainingConfig, data: TrainingData) -> None:
    labels = data.validation_labels
    right = torch.nn.functional.one_hot(labels, 2) * 4.0
    objective = Classification(config, data)

    assert objective.validate(right).score == 1.0
    half = right.clone()
    half[labels == 0] = torch.tensor([0.0, 4.0])  # every image of the first class is taken for the second
    assert objective.validate(half).score == 0.5
    assert objective.validate(right).loss < objective.validate(half).loss
    assert objective.correct(right, batch([[0.0, 0.0]] * len(labels), labels.tolist())) == len(labels)


def test_the_record_counts_the_images_of_each_part(config: TrainingConfig, data: TrainingData) -> None:
    record = Classification(config, data).record()

    assert record["data"]["classes"] == {"bar": 24, "disc": 24}
    parts = record["split"]["parts"]
    assert sum(part["images"] for part in parts.values()) == record["data"]["images"] == 48
    assert parts["train"]["classes"] == {
        name: data.train_labels.tolist().count(index) for index, name in enumerate(("bar", "disc"))
    }


def test_samples_are_drawn_alike_at_every_call(config: TrainingConfig, data: TrainingData) -> None:
    objective = Classification(config, data)
    one, other = (objective.sample(5, torch.device("cpu")) for _ in range(2))

    assert one.shape == (5, 3, 32, 32)
    assert torch.equal(one, other)
    assert len(objective.sample(10_000, torch.device("cpu"))) == objective.images
