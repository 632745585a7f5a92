"""The pooled features of the frozen backbone for every image of a dataset: one pass, kept for everything after it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.data.dataset import ImageFolder, read_pixels
from lensmount_adapters.errors import DatasetError
from lensmount_adapters.inputs.prepare import normalise
from lensmount_adapters.inputs.rules import InputRule, VolumePreprocessing

BATCH = 8  # images; larger batches leave the processor's caches (training/answer.py has the figures)

OnProgress = Callable[[int, int], None]  # images done, images in total


def pooled_features(folder: ImageFolder, backbone: Backbone, on_progress: OnProgress | None = None) -> np.ndarray:
    """Compute the last features of all samples, float32 [N, feature_dim], in the order of `folder.samples`.

    No adapter is mounted. An image is squashed to the backbone's size, so that nothing of it is cut off.
    `on_progress(done, total)` is called after every batch and may raise to stop.
    Raises DatasetError if an image cannot be read, or if the backbone returns maps instead of vectors.
    """
    if backbone.dense:
        raise DatasetError(
            f"found the backbone {backbone.name}, which returns maps, expected one that returns a vector per image. "
            "Fix: review the images with another backbone, such as tf_efficientnet_lite0"
        )
    rule = _whole(backbone.preprocessing)
    features = np.empty((len(folder), backbone.feature_dim), np.float32)
    for start in range(0, len(folder), BATCH):
        samples = folder.samples[start : start + BATCH]
        images = normalise(read_pixels(folder, samples, rule), rule)
        if images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        features[start : start + len(samples)] = backbone.features(images).cpu().numpy()
        if on_progress is not None:
            on_progress(start + len(samples), len(folder))
    return features


def _whole(rule: InputRule) -> InputRule:
    """The rule with the whole image in view: classification networks cut an eighth off by default."""
    if isinstance(rule, VolumePreprocessing):
        return rule
    return rule.model_copy(update={"resize": "squash", "crop_fraction": 1.0})
