"""Balanced accuracy of a recipe by cross-validation over groups, on the images and on damaged copies of them.

Every image is tested once per seed, by an adapter that has seen no image of its group. All folds train on the same
settings and keep the last epoch, so nothing is chosen on the images that are tested. The damage is done to the file's
own pixels, as a phone or a messenger does it: JPEG of quality 15, half the size, 0.7 of the brightness, hue moved by 14
degrees in either direction.

    python benchmarks/cross_validation.py malaria-recipe --seeds 3
    python benchmarks/cross_validation.py malaria-recipe --set augment=microscopy-robust
    python benchmarks/cross_validation.py smoking --set size=224 --folds 4 --only 0 1
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance
from shared import machine  # type: ignore[import-not-found]  # in this folder; mypy starts at the repository's root
from shared.training_tasks import TASKS  # type: ignore[import-not-found]
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor

from lensmount_adapters.augmentation.images import Augmentation
from lensmount_adapters.backbone.load import load_backbone
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.data.dataset import ImageFolder, read_folder, read_pixels
from lensmount_adapters.data.split import Split
from lensmount_adapters.inputs.images import decode_image, preprocess
from lensmount_adapters.inputs.rules import Preprocessing
from lensmount_adapters.training.calibration_images import CalibrationPlan
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.loop import TrainingLoop, silent
from lensmount_adapters.training.objective import Classification
from lensmount_adapters.training.training_data import TrainingData, enlarged, preprocessing_of
from lensmount_adapters.training.views import TrainingImages

HUE = 10  # of Pillow's 256 steps
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--only", type=int, nargs="+", help="Run only these folds.")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", nargs="+", default=[], metavar="SETTING=VALUE", help="Changes to the task's settings.")
    parser.add_argument("--threads", type=int, default=max(1, machine.cores() - 1))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine.describe())
    with tempfile.TemporaryDirectory() as folder:
        run(options, Path(folder))


def run(options: argparse.Namespace, scratch: Path) -> None:
    backbone = load_backbone(options.backbone)
    config = config_of(options, scratch)
    images = read_folder(config.data, config.group_regex)
    labels = np.array([sample.label for sample in images.samples])
    groups = [sample.group for sample in images.samples]
    cut = StratifiedGroupKFold(options.folds, shuffle=True, random_state=0)
    folds = [fold for n, fold in enumerate(cut.split(labels, labels, groups)) if n in (options.only or range(99))]
    tested = np.concatenate([test for _, test in folds])
    print("seed", *DAMAGE, "seconds of a fold", sep="\t")
    for seed in range(options.seeds):
        started = time.monotonic()
        answers = {name: np.zeros(len(labels), dtype=int) for name in DAMAGE}
        for train, test in folds:
            trained, rule = train_on(replace(config, seed=seed), backbone, images, train.tolist())
            for name, damage in DAMAGE.items():
                answers[name][test] = answers_of(trained, images, test.tolist(), rule, damage)
        figures = [f"{balanced_accuracy_score(labels[tested], found[tested]):.4f}" for found in answers.values()]
        print(seed, *figures, f"{(time.monotonic() - started) / len(folds):.0f}", sep="\t", flush=True)


def config_of(options: argparse.Namespace, scratch: Path) -> TrainingConfig:
    changes: dict[str, Any] = {}
    for change in options.set:
        name, _, text = change.partition("=")
        try:
            changes[name] = json.loads(text)
        except ValueError:
            changes[name] = text
    task = TASKS[options.task]
    return TrainingConfig(
        data=options.data / task.folder,
        name="fold",
        out=scratch / "fold.safetensors",
        backbone=options.backbone,
        threads=options.threads,
        precision="bfloat16",
        **{**task.settings, **changes},
    )


def train_on(
    config: TrainingConfig, backbone: Backbone, images: ImageFolder, train: Sequence[int]
) -> tuple[TrainingLoop, Preprocessing]:
    rule = preprocessing_of(config, backbone)
    assert isinstance(rule, Preprocessing), "this benchmark supports images only"
    augmentation = config.augmentation_rule()
    samples = [images.samples[index] for index in train]
    pixels = read_pixels(images, samples, enlarged(rule, augmentation))
    nothing = TrainingImages(pixels[:0], Augmentation(), rule)
    labels = torch.tensor([sample.label for sample in samples])
    split = Split(tuple(train), (), ())
    plan = CalibrationPlan(split, None)
    shown = TrainingImages(pixels, augmentation, rule)
    data = TrainingData(images, split, rule, shown, labels, nothing, labels[:0], plan)
    loop = TrainingLoop(config, backbone, Classification(config, data), [])
    loop.run(silent)
    loop.adapter.load(loop.best)
    loop.adapter.eval()
    return loop, rule


def answers_of(
    loop: TrainingLoop,
    images: ImageFolder,
    test: Sequence[int],
    rule: Preprocessing,
    damage: Callable[[Image.Image], Image.Image],
) -> list[int]:
    found: list[int] = []
    for start in range(0, len(test), BATCH):
        paths = [images.root / images.samples[index].path for index in test[start : start + BATCH]]
        batch: Tensor = torch.stack([preprocess(damage(decode_image(path.read_bytes())), rule) for path in paths])
        with torch.no_grad():
            found += loop.adapter.logits(batch, loop.precision).argmax(1).tolist()
    return found


def compressed(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "jpeg", quality=15)
    return Image.open(file).convert("RGB")


def turned(image: Image.Image, steps: int) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    moved = hue.point([(level + steps) % 256 for level in range(256)])
    return Image.merge("HSV", (moved, saturation, value)).convert("RGB")


DAMAGE: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as it is": lambda image: image,
    "JPEG 15": compressed,
    "half size": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.BILINEAR),
    "0.7 bright": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "hue +": lambda image: turned(image, HUE),
    "hue -": lambda image: turned(image, -HUE),
}


if __name__ == "__main__":
    main()
