"""Inputs for several rules from one decoding, with the same bits in training and in serving."""

from __future__ import annotations

import gzip
import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lensmount_adapters.errors import ImageError, ImageTooLarge, ImageUnsupported, VolumeUnsupported
from lensmount_adapters.inputs.images import ImageLimits
from lensmount_adapters.inputs.prepare import (
    InputLimits,
    PreparedInput,
    normalise,
    pixels_of,
    prepare,
    prepare_small,
    stated_size,
    suffixes_of,
)
from lensmount_adapters.inputs.rules import IntensityPercentiles, Preprocessing, VolumePreprocessing

VOXELS = np.random.default_rng(0).integers(-500, 1500, (5, 24, 20)).astype(np.int16)  # [slices, height, width]
HALVES: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
VOLUME_RULE = VolumePreprocessing(depth=8, size=(16, 32), **HALVES)


def npy(voxels: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, voxels)
    return file.getvalue()


def png(orientation: int = 1) -> bytes:
    """40 x 24 pixels of noise."""
    file = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(file, "PNG", exif=exif)
    return file.getvalue()


def test_each_rule_gets_the_input_that_it_gets_alone() -> None:
    rules = [
        Preprocessing(size=(16, 24), resize="squash", **HALVES),
        Preprocessing(size=(32, 32), resize="pad", **HALVES),
    ]

    together = prepare(png(), rules)

    assert list(together.inputs) == rules
    for rule in rules:
        assert together.inputs[rule].shape == rule.input_shape
        assert torch.equal(together.inputs[rule], prepare(png(), [rule]).inputs[rule])


def test_the_size_is_that_of_the_upright_image_and_a_volume_has_none() -> None:
    rule = Preprocessing(size=(16, 16), **HALVES)

    assert prepare(png(), [rule]).size == (40, 24)
    assert prepare(png(orientation=6), [rule]).size == (24, 40)
    assert prepare(npy(VOXELS), [VOLUME_RULE]).size is None


def test_a_volume_adapter_refuses_an_image() -> None:
    with pytest.raises(VolumeUnsupported, match="found a PNG image, expected a volume"):
        prepare(png(), [VOLUME_RULE])


def test_the_limits_of_the_kind_apply() -> None:
    with pytest.raises(ImageTooLarge, match="40 x 24"):
        prepare(png(), [Preprocessing(size=(16, 16), **HALVES)], InputLimits(image=ImageLimits(max_side=39)))


def test_suffixes_are_those_of_the_rule_s_kind() -> None:
    assert ".nii.gz" in suffixes_of(VOLUME_RULE)
    assert ".jpg" in suffixes_of(Preprocessing(size=(16, 16), **HALVES))


def test_training_and_serving_see_the_same_bits_of_an_image() -> None:
    rule = Preprocessing(size=(16, 24), **HALVES)

    pixels = pixels_of(png(), rule)

    assert (pixels.dtype, pixels.shape) == (torch.uint8, (3, 16, 24))
    assert torch.equal(normalise(pixels[None], rule)[0], prepare(png(), [rule]).inputs[rule])


def test_training_and_serving_see_the_same_bits_and_a_flat_volume_is_zero() -> None:
    rule = VolumePreprocessing(depth=8, size=(16, 32), window=IntensityPercentiles(), **HALVES)
    data, flat = npy(VOXELS), npy(np.full((3, 16, 16), 7.0))

    trained = normalise(pixels_of(data, rule).unsqueeze(0), rule)

    assert torch.equal(trained[0], prepare(data, [rule]).inputs[rule])
    assert torch.equal(prepare(flat, [rule]).inputs[rule], torch.full((3, 8, 16, 32), -1.0))


def test_an_image_adapter_refuses_a_volume_and_says_so() -> None:
    nibabel = pytest.importorskip("nibabel", reason="the extra 'volumes' is not installed")
    nifti = bytes(nibabel.Nifti1Image(VOXELS, np.eye(4)).to_bytes())
    pages = io.BytesIO()
    images = [Image.fromarray(page.astype(np.uint8)) for page in VOXELS]
    images[0].save(pages, "TIFF", save_all=True, append_images=images[1:])
    rule = Preprocessing(size=(16, 16), **HALVES)

    for data in (npy(VOXELS), nifti, gzip.compress(nifti)):
        with pytest.raises(ImageUnsupported, match="this adapter takes images"):
            prepare(data, [rule])
    with pytest.raises(ImageError, match="5 frames"):
        prepare(pages.getvalue(), [rule])


def test_the_stated_size_of_an_image_is_its_pixels_and_a_volume_is_refused_as_by_prepare() -> None:
    assert stated_size(png()) == 40 * 24
    with pytest.raises(ImageUnsupported, match="found a volume or a gzip file, expected an image"):
        stated_size(npy(VOXELS))


def test_of_an_image_above_the_stated_size_only_the_size_is_read_and_a_smaller_one_has_the_same_bits() -> None:
    rule = Preprocessing(size=(16, 16), **HALVES)
    cut = png()[:60]  # its header is complete, and it cannot be decoded

    assert prepare_small(cut, [rule], InputLimits(), 40 * 24 - 1) == 40 * 24
    small = prepare_small(png(), [rule], InputLimits(), 40 * 24)

    assert isinstance(small, PreparedInput)
    assert torch.equal(small.inputs[rule], prepare(png(), [rule]).inputs[rule])
    assert small.size == (40, 24)
    with pytest.raises(ImageError):
        prepare_small(cut, [rule], InputLimits(), 40 * 24)
