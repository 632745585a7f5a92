"""The grouped and stratified split."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from lensmount_adapters.data.dataset import ImageFolder, Sample
from lensmount_adapters.data.source import FolderSource
from lensmount_adapters.data.split import few_shot, split_folder, split_samples
from lensmount_adapters.errors import DatasetError


def slides(count: int, seed: int) -> tuple[list[int], list[str]]:
    """Labels and groups: slides of 1 to 6 images, a third of the images of class 1."""
    random = np.random.default_rng(seed)
    labels: list[int] = []
    groups: list[str] = []
    for slide in range(count):
        size = int(random.integers(1, 7))
        labels += (random.random(size) < random.choice([0.1, 0.6])).astype(int).tolist()
        groups += [f"slide{slide}"] * size
    return labels, groups


@pytest.mark.parametrize("seed", range(20))
def test_no_group_is_in_two_parts_and_no_sample_is_lost(seed: int) -> None:
    labels, groups = slides(80, seed)

    split = split_samples(labels, groups, seed)

    parts = [{groups[i] for i in part} for part in split.parts().values()]
    assert sum(map(len, parts)) == len(set(groups))
    assert sorted(split.train + split.validation + split.test) == list(range(len(labels)))


@pytest.mark.parametrize("seed", range(20))
def test_every_part_has_its_share_of_every_class(seed: int) -> None:
    labels, groups = slides(120, seed)

    split = split_samples(labels, groups, seed, validation_fraction=0.1, test_fraction=0.2)

    for part, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        counts = Counter(labels[i] for i in split.parts()[part])
        for label, total in Counter(labels).items():
            assert abs(counts[label] - share * total) <= max(4, 0.04 * total)


def test_equal_parts_are_as_even_as_those_of_scikit_learn() -> None:
    labels, groups = slides(90, 5)
    y = np.array(labels)
    folds = StratifiedGroupKFold(3, shuffle=True, random_state=0).split(y, y, groups)
    theirs = max(abs(y[test].mean() - y.mean()) for _, test in folds)

    split = split_samples(labels, groups, 0, validation_fraction=1 / 3, test_fraction=1 / 3)

    ours = max(abs(y[list(part)].mean() - y.mean()) for part in split.parts().values())
    assert ours <= theirs + 0.02


def test_the_seed_decides_the_split_and_nothing_else_does() -> None:
    labels, groups = slides(60, 1)

    assert split_samples(labels, groups, 7) == split_samples(labels, list(groups), 7)
    assert split_samples(labels, groups, 7) != split_samples(labels, groups, 8)


def test_a_fraction_of_zero_gives_an_empty_part() -> None:
    split = split_samples([0, 1] * 10, list(range(20)), 0, validation_fraction=0, test_fraction=0.2)

    assert split.validation == ()
    assert len(split.test) == 4


def test_a_part_that_would_lack_a_class_is_refused() -> None:
    with pytest.raises(DatasetError, match="would have no image of 1 of 2 classes"):
        split_samples([0] * 20 + [1] * 2, list(range(22)), 0)


def test_fractions_that_leave_nothing_to_train_on_are_refused() -> None:
    with pytest.raises(DatasetError, match="something left to train on"):
        split_samples([0, 1], [0, 1], 0, validation_fraction=0.5, test_fraction=0.5)


def test_few_shot_keeps_n_training_images_of_each_class_and_all_of_the_other_parts() -> None:
    labels = [0] * 40 + [1] * 30
    split = split_samples(labels, list(range(70)), 0)

    few = few_shot(split, labels, 5, seed=3)

    assert Counter(labels[i] for i in few.train) == {0: 5, 1: 5}
    assert set(few.train) <= set(split.train)
    assert (few.validation, few.test) == (split.validation, split.test)
    assert few == few_shot(split, labels, 5, seed=3)
    with pytest.raises(DatasetError, match="expected 99"):
        few_shot(split, labels, 99, seed=3)


def folder_of(labels: list[int], splits: list[str | None], groups: list[str] | None = None) -> ImageFolder:
    samples = tuple(
        Sample(f"{label}/{index}.png", label, groups[index] if groups else str(index), "", splits[index])
        for index, label in enumerate(labels)
    )
    return ImageFolder(Path("x"), ("a", "b"), samples, FolderSource(Path("x")))


def test_without_stated_parts_a_folder_is_split_like_its_samples() -> None:
    labels, groups = slides(60, 1)
    folder = folder_of(labels, [None] * len(labels), groups)

    assert split_folder(folder, 7, 0.1, 0.2) == split_samples(labels, groups, 7, 0.1, 0.2)
    assert split_folder(folder_of(labels, ["train"] * len(labels), groups), 7) == split_samples(labels, groups, 7)


def test_stated_parts_are_honoured_and_the_missing_one_is_drawn_from_the_rest() -> None:
    labels = [0, 1] * 30
    splits: list[str | None] = ["test"] * 10 + ["train"] * 25 + [None] * 25
    folder = folder_of(labels, splits)

    split = split_folder(folder, 3, validation_fraction=0.2)

    assert split.test == tuple(range(10))
    assert len(split.validation) == 10
    assert set(split.validation) <= set(range(10, 60))
    assert sorted(split.train + split.validation + split.test) == list(range(60))
    assert split == split_folder(folder, 3, validation_fraction=0.2)
    assert split != split_folder(folder, 4, validation_fraction=0.2)


def test_with_both_parts_stated_the_seed_changes_nothing() -> None:
    splits: list[str | None] = [*["train"] * 20, *["validation"] * 4, *["test"] * 6]
    folder = folder_of([0, 1] * 15, splits)

    split = split_folder(folder, 0)

    assert split.parts() == {
        "train": tuple(range(20)),
        "validation": tuple(range(20, 24)),
        "test": tuple(range(24, 30)),
    }
    assert split == split_folder(folder, 1, 0.4, 0.4)


def test_a_stated_split_without_training_images_of_a_class_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"no training image of 1 of 2 classes, such as b"):
        split_folder(folder_of([0, 0, 1, 1], ["train", "test", "test", "validation"]), 0, 0, 0)
