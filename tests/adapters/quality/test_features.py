"""Pooled features: one row for each image, in the order of the samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.adapters.conftest import DrawFolder

from lensmount_adapters import Backbone, load_backbone
from lensmount_adapters.data.dataset import read_folder
from lensmount_adapters.errors import DatasetError
from lensmount_adapters.quality.features import pooled_features


def test_each_row_is_the_network_on_the_whole_image(
    tmp_path: Path, small_backbone: Backbone, draw_folder: DrawFolder
) -> None:
    folder = read_folder(draw_folder(tmp_path, discs=7, bars=6))
    told: list[tuple[int, int]] = []

    found = pooled_features(folder, small_backbone, lambda done, total: told.append((done, total)))

    rule = small_backbone.preprocessing
    for row, sample in zip(found, folder.samples, strict=True):
        image = Image.open(tmp_path / sample.path).resize(rule.size[::-1], Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
        x = (pixels - torch.tensor(rule.mean).view(3, 1, 1)) / torch.tensor(rule.std).view(3, 1, 1)
        np.testing.assert_allclose(row, small_backbone.features(x[None])[0], rtol=1e-3, atol=1e-4)
    assert told == [(8, 13), (13, 13)]


def test_a_backbone_that_returns_maps_is_refused_with_one_that_works(tmp_path: Path, draw_folder: DrawFolder) -> None:
    folder = read_folder(draw_folder(tmp_path, discs=2, bars=2))

    with pytest.raises(DatasetError, match="Fix: review the images with another backbone"):
        pooled_features(folder, load_backbone("monai_unet", "random:0"))


def test_an_image_that_cannot_be_read_is_named(
    tmp_path: Path, small_backbone: Backbone, draw_folder: DrawFolder
) -> None:
    folder = read_folder(draw_folder(tmp_path, discs=3, bars=3))
    (tmp_path / folder.samples[4].path).write_bytes(b"no image")

    with pytest.raises(DatasetError, match=folder.samples[4].path):
        pooled_features(folder, small_backbone)
