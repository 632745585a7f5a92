"""A run's data are read, split and decoded once, by a rule that fits the backbone."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lensmount_adapters import Backbone, Preprocessing
from lensmount_adapters.augmentation.images import Augmentation, preset
from lensmount_adapters.errors import DatasetError, TrainingError
from lensmount_adapters.inputs.rules import IntensityRange, VolumePreprocessing
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.training_data import enlarged, load_training_data, preprocessing_of

RULE = Preprocessing(size=(64, 48), mean=(0.5,) * 3, std=(0.5,) * 3, resize="crop", crop_fraction=0.875)


class Fixed:
    """What preprocessing asks a backbone for, with other limits than the real one has."""

    name, fixed_size, size_step = "fixed", False, 1

    def __init__(self, rule: Any, **fields: Any) -> None:
        self.preprocessing = rule
        for name, value in fields.items():
            setattr(self, name, value)


def test_every_image_is_in_one_part_and_decoded_for_its_use(config: TrainingConfig, backbone: Backbone) -> None:
    data = load_training_data(replace(config, augment="photo"), backbone)

    parts = {part: data.samples(part) for part in ("train", "validation", "test")}
    assert sorted(s.path for samples in parts.values() for s in samples) == [s.path for s in data.folder.samples]
    assert data.labels == ("bar", "disc")
    assert len(data.train) == len(data.train_labels) == len(parts["train"])
    assert len(data.validation) == len(data.validation_labels) == len(parts["validation"])
    assert data.train_labels.tolist() == [sample.label for sample in parts["train"]]
    assert data.train.pixels.shape[-2:] == (36, 36)  # an eighth larger than the input, so that crops keep their detail
    assert data.validation.pixels.shape[-2:] == (32, 32)


def test_shots_are_images_per_class_of_the_training_part_alone(config: TrainingConfig, backbone: Backbone) -> None:
    whole, few = (load_training_data(replace(config, shots=shots), backbone) for shots in (None, 3))

    assert few.train_labels.tolist() == [0] * 3 + [1] * 3
    assert few.validation_labels.tolist() == whole.validation_labels.tolist()
    assert few.samples("test") == whole.samples("test")


def test_a_split_that_is_impossible_is_refused_with_numbers_and_fractions_that_work(
    config: TrainingConfig, backbone: Backbone, tmp_path: Path
) -> None:
    for name in ("bar", "disc"):
        (tmp_path / "few" / name).mkdir(parents=True)
        for path in sorted((config.data / name).iterdir())[:3]:
            shutil.copy(path, tmp_path / "few" / name)
    few = replace(config, data=tmp_path / "few", group_regex=None, validation_fraction=0.15, test_fraction=0.15)

    with pytest.raises(DatasetError, match=r"Found 3 image\(s\) of 'bar', expected at least 6 of each class") as caught:
        load_training_data(few, backbone)

    validation, test = re.findall(r"_fraction (\S+) ", str(caught.value))
    better = replace(few, validation_fraction=float(validation), test_fraction=float(test))
    assert load_training_data(better, backbone).labels == ("bar", "disc")


def test_the_depth_says_which_folders_are_the_classes(
    config: TrainingConfig, backbone: Backbone, tmp_path: Path
) -> None:
    for name in ("bar", "disc"):
        shutil.copytree(config.data / name, tmp_path / "d" / "shapes" / name)
        shutil.copytree(config.data / name, tmp_path / "d" / "more" / name)
    run = replace(config, data=tmp_path / "d")

    with pytest.raises(DatasetError, match="--class-depth 1 or --class-depth 2"):
        load_training_data(run, backbone)

    assert load_training_data(replace(run, class_depth=1), backbone).labels == ("more", "shapes")
    names = ("more/bar", "more/disc", "shapes/bar", "shapes/disc")
    labels = load_training_data(replace(run, class_depth=2, test_fraction=0, group_regex=None), backbone).labels
    assert labels == names


@pytest.mark.parametrize(("option", "cost"), [("max_pixels", "pixels"), ("max_image_bytes", "bytes")])
def test_a_limit_of_images_is_raised_as_its_refusal_says(
    config: TrainingConfig, backbone: Backbone, option: str, cost: str, tmp_path: Path
) -> None:
    large = shutil.copytree(config.data, tmp_path / "large")
    first = sorted((large / "disc").iterdir())[0]
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (200, 300, 3)).astype(np.uint8)).save(first)
    limit = 59_999 if cost == "pixels" else first.stat().st_size - 1
    changes: dict[str, Any] = {option: limit}
    run = replace(config, data=large, **changes)

    with pytest.raises(DatasetError, match=rf"{first.name}.*at most {limit}.*Fix: .*raise {option} ") as caught:
        load_training_data(run, backbone)

    assert f"--{option.replace('_', '-')}" in str(caught.value)
    assert len(load_training_data(replace(run, **{**changes, option: limit + 1}), backbone).folder) == len(
        list(large.rglob("*.png"))
    )


@pytest.mark.parametrize(
    ("fields", "changes", "found"),
    [
        ({"fixed_size": True}, {"size": 32}, "found --size 32, expected 64, the only size that fixed accepts"),
        ({"size_step": 32}, {"size": 48}, "found --size 48, expected a multiple of 32"),
        ({}, {"orientations": 4}, "found --orientations 4 for 64 x 48 pixels, expected a square"),
    ],
)
def test_a_size_that_does_not_fit_the_backbone_is_refused(
    fields: dict[str, Any], changes: dict[str, Any], found: str, config: TrainingConfig
) -> None:
    one: Any = Fixed(RULE, **fields)
    with pytest.raises(TrainingError, match=found):
        preprocessing_of(replace(config, **({"size": None} | changes)), one)


def test_the_rule_is_the_backbone_s_with_the_changes_of_the_config(config: TrainingConfig) -> None:
    one: Any = Fixed(RULE)
    squashed = preprocessing_of(replace(config, size=32, orientations=8), one)
    assert squashed == RULE.model_copy(
        update={"size": (32, 32), "resize": "squash", "crop_fraction": 1.0, "orientations": 8}
    )
    assert preprocessing_of(replace(config, size=None, resize="crop"), one) == RULE


def test_volumes_get_their_depth_and_window(config: TrainingConfig) -> None:
    one: Any = Fixed(VolumePreprocessing(depth=16, size=(64, 64), mean=(0.5,) * 3, std=(0.5,) * 3))

    found = preprocessing_of(replace(config, depth=4, window=(-160, 240), depth_resize="crop"), one)

    assert isinstance(found, VolumePreprocessing)
    assert (found.depth, found.size, found.depth_resize) == (4, (32, 32), "crop")
    assert found.window == IntensityRange(lower=-160, upper=240)


def test_only_images_that_are_cropped_are_decoded_larger() -> None:
    photo = preset("photo")
    assert enlarged(RULE, photo) == RULE.model_copy(update={"size": (72, 54), "crop_fraction": 1.0})
    assert enlarged(RULE, Augmentation()) == RULE
    assert enlarged(RULE.model_copy(update={"size": (1024, 960)}), photo).size == (1024, 1024)
