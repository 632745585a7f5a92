"""The data of one training run: the images, their split, and the decoded pixels in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from pydantic import ValidationError
from torch import Tensor

from lensmount_adapters.augmentation.images import Augmentation
from lensmount_adapters.augmentation.volumes import VolumeAugmentation
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.data.dataset import ImageFolder, Sample, read_folder, read_pixels, require_readable
from lensmount_adapters.data.split import Split
from lensmount_adapters.data.split_advice import SplitOptions, advised_split
from lensmount_adapters.data.survey import survey_images
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.inputs.limits import ImageLimits
from lensmount_adapters.inputs.prepare import suffixes_of
from lensmount_adapters.inputs.rules import InputRule, IntensityRange, VolumePreprocessing
from lensmount_adapters.training.calibration_images import CalibrationPlan, plan_calibration
from lensmount_adapters.training.config import TrainingConfig, require
from lensmount_adapters.training.views import TrainingImages


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """Everything that a run reads, decoded once. `load_training_data(config, backbone)` creates it."""

    folder: ImageFolder
    split: Split
    preprocessing: InputRule
    train: TrainingImages
    train_labels: Tensor
    validation: TrainingImages
    validation_labels: Tensor
    calibration: CalibrationPlan

    @property
    def labels(self) -> tuple[str, ...]:
        return self.folder.classes

    @property
    def digest(self) -> str:
        return self.folder.digest

    def samples(self, part: str) -> list[Sample]:
        return [self.folder.samples[index] for index in self.split.parts()[part]]


def load_training_data(config: TrainingConfig, backbone: Backbone) -> TrainingData:
    """Read the images, split them and decode them. Raises DatasetError, TrainingError."""
    rule = preprocessing_of(config, backbone)
    require(not config.masks, "head segmentation for classes", "train_segmentation, or a recipe such as nuclei-unet")
    require(not backbone.dense, f"{backbone.name} for classes", "a backbone that returns one vector per image")
    folder = read_folder(
        config.data,
        config.group_regex,
        suffixes=suffixes_of(rule),
        class_depth=config.class_depth,
        limits=ImageLimits(config.max_image_bytes, config.max_pixels),
    )
    fractions = config.validation_fraction, config.test_fraction
    plan = plan_calibration(config, folder, advised_split(folder, SplitOptions(config.seed, *fractions, config.shots)))
    split = plan.split
    if isinstance(rule, VolumePreprocessing):
        require_readable(folder, rule)
    else:
        folder = replace(folder, notes=(*folder.notes, *survey_images(folder, split)))
    augmentation = config.augmentation_rule()
    train = [folder.samples[index] for index in split.train]
    validation = [folder.samples[index] for index in split.validation]
    return TrainingData(
        folder,
        split,
        rule,
        TrainingImages(read_pixels(folder, train, enlarged(rule, augmentation)), augmentation, rule),
        torch.tensor([sample.label for sample in train]),
        TrainingImages(read_pixels(folder, validation, rule), Augmentation(), rule),
        torch.tensor([sample.label for sample in validation], dtype=torch.int64),
        plan,
    )


def preprocessing_of(config: TrainingConfig, backbone: Backbone) -> InputRule:
    """The backbone's input rule with the changes of the config. Raises TrainingError for a size that does not fit."""
    default = backbone.preprocessing
    size = default.size if config.size is None else (config.size, config.size)
    if backbone.fixed_size and size != default.size:
        raise TrainingError(
            f"found --size {config.size}, expected {default.size[0]}, the only size that {backbone.name} accepts"
        )
    if any(side % backbone.size_step for side in size):
        raise TrainingError(
            f"found --size {size[0]}, expected a multiple of {backbone.size_step} for {backbone.name}. "
            "Fix: choose another --size"
        )
    if config.orientations > 2 and size[0] != size[1]:
        raise TrainingError(
            f"found --orientations {config.orientations} for {size[0]} x {size[1]} pixels, expected a square"
        )
    if isinstance(default, VolumePreprocessing):
        return _volume_preprocessing(config, default, size)
    crop = default.crop_fraction if config.resize == "crop" else 1.0
    changes = {"size": size, "resize": config.resize, "crop_fraction": crop, "orientations": config.orientations}
    return default.model_copy(update=changes)


def _volume_preprocessing(
    config: TrainingConfig, default: VolumePreprocessing, size: tuple[int, int]
) -> VolumePreprocessing:
    try:
        window = default.window
        if config.window is not None:
            window = IntensityRange(lower=config.window[0], upper=config.window[1])
        return VolumePreprocessing(
            depth=default.depth if config.depth is None else config.depth,
            size=size,
            depth_resize=config.depth_resize,
            window=window,
            mean=default.mean,
            std=default.std,
            orientations=config.orientations,
        )
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise TrainingError(f"preprocessing of volumes: {first['msg']}") from error


def enlarged(rule: InputRule, augmentation: Augmentation | VolumeAugmentation) -> InputRule:
    """The rule to decode training images with: an eighth larger than on the server, so that a crop keeps its detail.

    With `resize` "crop", training sees the whole centred square and the server only its middle, as on ImageNet: random
    crops make objects look larger in training, and the middle crop makes them as large on the server (FixRes,
    arXiv 1906.06423). Volumes are never cropped.
    """
    if augmentation == Augmentation() or isinstance(rule, VolumePreprocessing):
        return rule
    height, width = (min(1024, side + side // 8) for side in rule.size)
    return rule.model_copy(update={"size": (height, width), "crop_fraction": 1.0})
