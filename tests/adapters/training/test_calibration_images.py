"""Which images promises rest on: validation and test stay as they were, groups stay whole, too few images are said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lensmount_adapters.data.dataset import ImageFolder, Sample
from lensmount_adapters.data.source import FolderSource
from lensmount_adapters.data.split import split_folder
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.training.calibration_images import plan_calibration
from lensmount_adapters.training.config import TrainingConfig


def folder_of(images: int, per_group: int = 1, classes: int = 2) -> ImageFolder:
    """This many images of each class, in groups of `per_group`."""
    samples = [
        Sample(f"{label}/{index}.png", label, f"{label}-{index // per_group}", f"{label}-{index}", None)
        for label in range(classes)
        for index in range(images)
    ]
    return ImageFolder(Path(), tuple("abcdef"[:classes]), tuple(samples), FolderSource(Path()))


def plan(config: TrainingConfig, folder: ImageFolder, **changes: Any) -> Any:
    split = split_folder(folder, 0)
    return split, plan_calibration(replace(config, **changes), folder, split)


@pytest.mark.parametrize(
    ("images", "source"),
    [
        (26, None),  # 18 training images of each class
        (28, "cross-fitted"),  # 20
        (900, "cross-fitted"),  # 15 % of 630 are 94
        (1000, "part"),  # 105
    ],
)
def test_auto_takes_a_part_where_it_is_large_enough_then_crosses_then_does_nothing(
    images: int, source: str | None, config: TrainingConfig
) -> None:
    split, found = plan(config, folder_of(images))
    assert found.source == source
    assert (found.split.validation, found.split.test) == (split.validation, split.test)
    assert sorted(found.split.train + found.split.calibration) == sorted(split.train)
    if source == "part":
        counts = [sum(index // images == label for index in found.split.calibration) for label in (0, 1)]
        assert min(counts) >= 99
        assert found.split.parts()["calibration"] == found.split.calibration
    else:
        assert list(found.split.parts()) == ["train", "validation", "test"]
    if source is None:
        assert found.why_not == (
            "too few images: found 18 training images of a in 18 groups, expected at least 19 in 4 groups"
        )


def test_cross_keeps_no_part_however_many_images_there_are(config: TrainingConfig) -> None:
    split, found = plan(config, folder_of(1000), calibration="cross")
    assert (found.source, found.split) == ("cross-fitted", split)


def test_groups_stay_whole_in_a_part(config: TrainingConfig) -> None:
    folder = folder_of(400, per_group=4)
    _, found = plan(config, folder, calibration="part")
    inside = {folder.samples[index].group for index in found.split.calibration}
    assert inside.isdisjoint(folder.samples[index].group for index in found.split.train)


def test_many_images_in_few_groups_cannot_be_crossed_and_the_advice_works(config: TrainingConfig) -> None:
    folder = folder_of(100, per_group=20)
    split = split_folder(folder, 0, 0.2, 0.2)
    assert plan_calibration(config, folder, split).source is None
    with pytest.raises(TrainingError, match=r"in 3 groups, expected at least 4 in 4 groups\. Fix: .*calibration off"):
        plan_calibration(replace(config, calibration="cross"), folder, split)
    assert plan_calibration(replace(config, calibration="off"), folder, split).source is None


def test_a_part_that_would_lack_a_class_is_refused_and_the_advice_works(config: TrainingConfig) -> None:
    folder = folder_of(100, per_group=100)
    split = replace(split_folder(folder_of(100), 0), train=tuple(range(70)) + tuple(range(100, 170)))
    with pytest.raises(TrainingError, match=r"no image of .* Fix: add images of each class, or choose --cal.* off"):
        plan_calibration(replace(config, calibration="part"), folder, split)
    assert plan_calibration(replace(config, calibration="off"), folder, split).source is None


def test_an_unknown_positive_label_is_refused_with_the_labels(config: TrainingConfig) -> None:
    with pytest.raises(TrainingError, match=r"found positive 'z', expected one of a, b\. Fix: --positive b"):
        plan(config, folder_of(50), positive="z", sensitivity=0.9)
    assert plan(config, folder_of(50), positive="b", sensitivity=0.9)[1].source == "cross-fitted"


@pytest.mark.parametrize(
    ("point", "said", "advised"),
    [
        ({"sensitivity": 0.9}, r"found sensitivity without positive.*Fix: --positive LABEL", {"positive": "a"}),
        ({"specificity": 0.9}, r"found specificity without positive.*leave --specificity out", {"specificity": None}),
        (
            {"positive": "a", "sensitivity": 0.9, "specificity": 0.9},
            r"found sensitivity and specificity, expected one of the two.*Fix: leave --specificity out",
            {"specificity": None},
        ),
    ],
)
def test_sensitivity_and_specificity_come_alone_and_with_a_positive_label_and_the_advice_works(
    point: dict[str, Any], said: str, advised: dict[str, Any], config: TrainingConfig
) -> None:
    with pytest.raises(TrainingError, match=said):
        replace(config, **point)
    assert replace(config, **(point | advised))


def test_an_unknown_positive_label_is_refused_without_a_calibration_too(config: TrainingConfig) -> None:
    with pytest.raises(TrainingError, match="found positive 'z', expected one of a, b"):
        plan(config, folder_of(50), positive="z", sensitivity=0.9, calibration="off")
