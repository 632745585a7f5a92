"""Train for segmentation: a whole network, an adapter on it, and refused data."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

if find_spec("monai") is None:  # to import it takes seconds, in every process that collects this file
    pytest.skip('needs MONAI: pip install "lensmount[monai]"', allow_module_level=True)

from lensmount_adapters import Preprocessing, load_backbone, preprocess
from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.errors import DatasetError, TrainingError
from lensmount_adapters.masks.folder import read_mask_folder
from lensmount_adapters.metrics.masks import measure_masks
from lensmount_adapters.swap.exact import ExactSwapper
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.evaluate import evaluate
from lensmount_adapters.training.segmentation import read_mask_task
from lensmount_adapters.training.train_adapter import train
from lensmount_adapters.training.train_masks import train_base, train_segmentation


def blobs(root: Path, count: int = 16) -> Path:
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    rows = ["file,kind"]
    for seed in range(count):
        random = np.random.default_rng(seed)
        image, mask = Image.fromarray(random.integers(0, 60, (64, 64, 3), dtype=np.uint8)), Image.new("L", (64, 64))
        for x, y in random.integers(4, 44, (3, 2)).tolist():
            ImageDraw.Draw(image).ellipse((x, y, x + 14, y + 14), fill=(180, 170, 190))
            ImageDraw.Draw(mask).ellipse((x, y, x + 14, y + 14), fill=255)
        image.save(root / "images" / f"{seed:02d}.png")
        mask.save(root / "masks" / f"{seed:02d}.png")
        rows.append(f"{seed:02d}.png,{'even' if seed % 2 == 0 else 'odd'}")
    (root / "index.csv").write_text("\n".join(rows) + "\n")
    return root


def test_a_base_and_an_adapter_on_it_learn_blobs(tmp_path: Path) -> None:
    config = TrainingConfig(
        data=blobs(tmp_path / "blobs"), name="blobs", out=tmp_path / "base.safetensors", backbone="monai_unet",
        weights="random:0", head="segmentation", labels=("blob",), size=64, epochs=4, batch_size=4, average=0.0,
        learning_rate=5e-3, weight_decay=0.0, augment="microscopy", precision="fp32", file_dtype="fp32", threads=1,
    )  # fmt: skip
    base = train_base(config, tmp_path / "weights.safetensors")
    assert base.test is not None
    assert base.test.dice > 0.8
    trained_base = load_backbone("monai_unet", tmp_path / "weights.safetensors")
    assert base.manifest.backbone == trained_base.ref
    own = TrainingConfig(
        data=config.data, name="even", out=tmp_path / "even.safetensors", backbone="monai_unet", rank=2, size=64,
        weights=str(tmp_path / "weights.safetensors"), head="segmentation", where="kind=even", epochs=2, batch_size=4,
        labels=("blob",), loss="mse", learning_rate=1e-3, precision="fp32", threads=1, validation_fraction=0.25,
        test_fraction=0.25, augment="none",
    )  # fmt: skip
    result = train_segmentation(own, backbone=trained_base)
    assert result.record["data"]["images"] == 8
    assert result.test is not None
    assert result.record["metrics"]["test"]["dice"] == result.test.dice
    assert len(admit(own.out.read_bytes(), trained_base).deltas) == 23
    assert result.notes == ()
    with pytest.raises(DatasetError, match=r"answers with masks.*Fix: read the Dice and IoU"):
        evaluate(own.out, config.data, backbone=trained_base)


def test_every_mask_is_checked_before_the_first_step_and_odd_ones_are_noted(tmp_path: Path) -> None:
    folder = blobs(tmp_path / "blobs", 8)
    for name in ("00", "05"):
        Image.new("L", (64, 64)).save(folder / "masks" / f"{name}.png")
    backbone = load_backbone("monai_unet", "random:0")
    config = TrainingConfig(
        data=folder, name="blobs", out=tmp_path / "x.safetensors", backbone="monai_unet", head="segmentation", size=32,
        validation_fraction=0.25, test_fraction=0.25,
    )  # fmt: skip

    task = read_mask_task(config, backbone)
    assert task.folder.notes == ("2 of 8 mask(s) are blank: no pixel is an object (masks/00.png, masks/05.png)",)
    (broken,) = (sample.mask for sample in task.samples("test")[:1])  # not read in training, only measured on
    Image.new("L", (64, 63)).save(folder / broken)
    with pytest.raises(DatasetError, match=rf"{broken}: found 64 x 63 .*expected one channel of 64 x 64"):
        read_mask_task(config, backbone)


def test_the_limits_of_the_config_hold_for_images_and_masks(tmp_path: Path) -> None:
    backbone = load_backbone("monai_unet", "random:0")
    config = TrainingConfig(
        data=blobs(tmp_path / "blobs", 8), name="blobs", out=tmp_path / "x.safetensors", backbone="monai_unet",
        head="segmentation", size=32, max_pixels=64 * 64 - 1,
    )  # fmt: skip
    with pytest.raises(DatasetError, match=r"found 64 x 64, expected at most 4095 pixels.* or raise max_pixels"):
        read_mask_task(config, backbone)

    assert len(read_mask_task(replace(config, max_pixels=64 * 64), backbone).folder) == 8


def test_ignored_pixels_have_no_part_in_the_figures_of_a_run(tmp_path: Path) -> None:
    folder = blobs(tmp_path / "blobs", 8)
    for path in (folder / "masks").iterdir():
        values = np.where(np.asarray(Image.open(path)) > 0, 1, 0).astype(np.uint8)
        values[:20] = 255
        Image.fromarray(values).save(path)
    backbone = load_backbone("monai_unet", "random:0")
    config = TrainingConfig(
        data=folder, name="blobs", out=tmp_path / "x.safetensors", backbone="monai_unet", head="segmentation", size=64,
        epochs=1, batch_size=4, validation_fraction=0.25, test_fraction=0.25, precision="fp32", threads=1,
    )  # fmt: skip

    result = train_segmentation(config, backbone=backbone)

    assert "8 of 8 mask(s) have pixels that count as nothing" in result.notes[-1]
    adapter, rule = admit(result.path.read_bytes(), backbone), result.manifest.preprocessing
    assert isinstance(rule, Preprocessing)
    swapper = ExactSwapper(backbone)
    swapper.mount(adapter)
    pairs = []
    for sample in result.task.samples("test"):
        image = result.task.folder.image(sample)
        scores = adapter.image_scores(backbone, preprocess(image, rule)[None])[0]
        truth = np.asarray(Image.open(folder / sample.mask)) == 1
        pairs.append((truth[None, 20:], scores.numpy()[:, 20:] >= 0.5))
    swapper.unmount()
    assert result.test is not None
    assert result.test.dice == pytest.approx(measure_masks(pairs, ("mask",)).dice, abs=1e-9)


def test_the_split_that_folders_state_is_taken(tmp_path: Path) -> None:
    folder = blobs(tmp_path / "blobs", 8)
    for kind in ("images", "masks"):
        for number in range(8):
            part = "test" if number in (2, 5) else "val" if number == 4 else "train"
            target = folder / part / kind / f"{number:02d}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            (folder / kind / target.name).rename(target)
    config = TrainingConfig(
        data=folder, name="blobs", out=tmp_path / "x.safetensors", backbone="monai_unet", head="segmentation", size=32,
    )  # fmt: skip

    task = read_mask_task(config, load_backbone("monai_unet", "random:0"))

    assert {part: [sample.image[-6:-4] for sample in task.samples(part)] for part in task.split.parts()} == {
        "train": ["00", "01", "03", "06", "07"], "validation": ["04"], "test": ["02", "05"],
    }  # fmt: skip


def test_data_and_settings_that_masks_cannot_be_learned_from_are_refused(tmp_path: Path) -> None:
    folder = blobs(tmp_path / "blobs", 2)
    with pytest.raises(DatasetError, match="columns file and modality"):
        read_mask_folder(folder, ("blob",), "modality=x")
    with pytest.raises(DatasetError, match="found no image with kind=blue"):
        read_mask_folder(folder, ("blob",), "kind=blue")
    (folder / "masks" / "01.png").unlink()
    with pytest.raises(DatasetError, match=r"no mask for 01.png"):
        read_mask_folder(folder, ("blob",))
    common: dict[str, Any] = {"data": folder, "name": "x", "out": tmp_path / "x.safetensors"}
    with pytest.raises(TrainingError, match="head segmentation only"):
        TrainingConfig(**common, where="a=b")
    masks = TrainingConfig(**common, head="segmentation", backbone="monai_unet", weights="random:0")
    with pytest.raises(TrainingError, match="train_segmentation"):
        train(masks)
    with pytest.raises(TrainingError, match="returns feature maps"):
        train_segmentation(TrainingConfig(**common, head="segmentation", backbone="resnet10t", weights="random:0"))
