"""Trains the adapters of labels.py: the stable one, others that differ by their seed alone, and some on wrong labels.

    python -m benchmarks.rollouts.train --data ../shared/data --out build/rollouts [--equal 20] [--worse 3]

Half of the slides of malaria-nih-gray50 is for training. An equal adapter has another seed, so also another part for
validation. A worse one has the labels of 10 % of its training images flipped, other images for each. All train with the
same options, and the scores of each for the images of the other slides are written next to it.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lensmount_adapters import Adapter, Backbone, ExactSwapper, admit, load_backbone
from lensmount_adapters.data.dataset import read_folder, read_pixels
from lensmount_adapters.inputs.prepare import normalise
from lensmount_adapters.runners.merged import MergedRunner
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.train_adapter import train

SET, SLIDE = "malaria-nih-gray50", r"^(.*?)_?[tT]hin"
LABELS = ("Parasitized", "Uninfected")
TRAINED = 800  # images of each label
FLIPPED = 0.1
OPTIONS: dict[str, Any] = {"size": 64, "epochs": 3, "augment": "microscopy", "calibration": "off", "group_regex": SLIDE}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("build/rollouts"))
    parser.add_argument("--equal", type=int, default=20)
    parser.add_argument("--worse", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    backbone = load_backbone()
    trained, _ = halves(options.data / SET)
    wanted = [("stable", 0, 0.0)]
    for number in range(1, max(options.equal, options.worse) + 1):
        wanted += [(f"worse-{number}", 0, FLIPPED)] if number <= options.worse else []
        wanted += [(f"equal-{number}", number, 0.0)] if number <= options.equal else []
    for name, seed, flipped in wanted:
        if (options.out / f"{name}.npz").exists():
            continue
        folder = options.out / "images"
        lay_out(trained, folder, flipped, seed=int(name.rpartition("-")[2]) if flipped else 0)
        result = train(TrainingConfig(folder, "cells", options.out / f"{name}.safetensors", seed=seed, **OPTIONS),
                       backbone=backbone)  # fmt: skip
        print(name, {part: round(found.metrics.accuracy, 4) for part, found in result.scored.items()}, flush=True)
        score(backbone, options.data / SET, options.out / f"{name}.safetensors")


def halves(folder: Path) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """The images of each label for training, and those for questions, from other slides."""
    images = {label: sorted((folder / label).iterdir()) for label in LABELS}
    slides = sorted({slide_of(path) for paths in images.values() for path in paths})
    random.Random(0).shuffle(slides)
    first = set(slides[: len(slides) // 2])
    of_first = {label: [path for path in paths if slide_of(path) in first] for label, paths in images.items()}
    others = {label: [path for path in paths if slide_of(path) not in first] for label, paths in images.items()}
    return {label: random.Random(0).sample(paths, TRAINED) for label, paths in of_first.items()}, others


def slide_of(path: Path) -> str:
    found = re.match(SLIDE, path.name)
    return found[1] if found else path.name


def lay_out(images: dict[str, list[Path]], folder: Path, flipped: float, seed: int) -> None:
    """Copy the images into a folder per label, this part of them into the wrong one."""
    shutil.rmtree(folder, ignore_errors=True)
    choice = random.Random(seed)
    for label, paths in images.items():
        wrong = set(choice.sample(paths, round(flipped * len(paths))))
        for path in paths:
            given = LABELS[1 - LABELS.index(label)] if path in wrong else label
            target = folder / given / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def score(backbone: Backbone, folder: Path, file: Path) -> None:
    """Write scores [N, 2], right labels [N] and slides [N] of the images for questions."""
    adapter = admit(file.read_bytes(), backbone)
    _, questions = halves(folder)
    names = {path.name for paths in questions.values() for path in paths}
    every = read_folder(folder, SLIDE, classes=LABELS)
    samples = [sample for sample in every.samples if Path(sample.path).name in names]
    runner = MergedRunner(backbone, ExactSwapper(backbone))
    scores = []
    for start in range(0, len(samples), 32):
        pixels = read_pixels(every, samples[start : start + 32], adapter.manifest.preprocessing)
        images = normalise(pixels, adapter.manifest.preprocessing)
        scores += runner.scores([Question(adapter, image) for image in images]).scores
    runner.close()
    np.savez(
        file.with_suffix(".npz"),
        scores=torch.stack(scores).numpy(),
        truth=np.array([sample.label for sample in samples]),
        names=np.array([Path(sample.path).name for sample in samples]),
    )


@dataclass(frozen=True)
class Question:
    """An image that an adapter is asked about, as a runner takes it."""

    adapter: Adapter
    image: torch.Tensor


if __name__ == "__main__":
    main()
