"""How good a first draft is, compared with the zoo's adapters on the same test images.

    python -m benchmarks.drafts.accuracy --data ../shared/data --cache build/drafts [--strengths 1 3 10 30]

A draft is solved on 5, 10 or 20 images per class, drawn 10 times from the images outside the zoo adapter's test part,
or on all of them (up to 200 per class). Both are scored on that test part. The features are computed once and kept in
the cache. `--strengths` compares the weight of the loss on 3 quarters of the other images, in groups, and scores the
fourth: the test part chooses nothing.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from benchmarks.shared import machine

from lensmount_adapters import Backbone, load_backbone
from lensmount_adapters.adapter.file import parse_adapter
from lensmount_adapters.data.dataset import ImageFolder, read_folder
from lensmount_adapters.draft.choice import Known, chosen
from lensmount_adapters.draft.draft import groups_of
from lensmount_adapters.draft.features import rule_of
from lensmount_adapters.draft.solve import Array, Indices, balanced_accuracy, cross_validated, solve
from lensmount_adapters.quality.out_of_fold import group_folds
from lensmount_adapters.training.answer import predict_samples
from lensmount_adapters.training.evaluate import reproduce_split

SETS = {"malaria": "malaria-nih", "smoking": "smoking", "histology": "histology-lc25000-lung"}
EACH = (5, 10, 20)
DRAWS = 10
ZOO = Path(__file__).parents[2] / "adapters" / "zoo"


@dataclass(frozen=True)
class Images:
    """Features [N, D], labels [N] and groups [N] of the images outside the test part, and those of the test part."""

    x: Array
    y: Indices
    groups: Indices
    test_x: Array
    test_y: Indices
    used: Indices  # the rows that a draft uses, without a limit for each class
    trained: float  # balanced accuracy of the zoo's adapter on the test part


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--cache", type=Path, required=True)
    arguments.add_argument("--strengths", nargs="+", type=float)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    print(machine.describe())
    backbone = load_backbone()
    options.cache.mkdir(parents=True, exist_ok=True)
    for name, folder in SETS.items():
        images = _images(name, options.data / folder, backbone, options.cache)
        if options.strengths:
            _compare(name, images, options.strengths)
        else:
            _judge(name, images)


def _images(name: str, data: Path, backbone: Backbone, cache: Path) -> Images:
    manifest = parse_adapter((ZOO / f"{name}.safetensors").read_bytes()).manifest
    record = manifest.training["split"]
    folder = read_folder(data, record["group_regex"], manifest.labels)
    features = _features(folder, backbone, cache / f"{name}.npy")
    known = [Known(each.path, each.label, each.group, each.digest) for each in folder.samples]
    labels, groups = np.array([each.label for each in known], np.int64), groups_of(known)
    test = {sample.path for sample in reproduce_split(manifest, folder, "test")}
    held = np.array([each.path in test for each in known])
    rest = [each for each in known if each.path not in test]
    drawn = {each.path for each in chosen(rest, folder.classes)}
    used = np.array([row for row, each in enumerate(rest) if each.path in drawn])
    trained = manifest.training["metrics"]["test"]["balanced_accuracy"]
    return Images(features[~held], labels[~held], groups[~held], features[held], labels[held], used, trained)


def _features(folder: ImageFolder, backbone: Backbone, cached: Path) -> Array:
    if not cached.exists():
        found = predict_samples(folder, folder.samples, rule_of(backbone), backbone.features)
        np.save(cached, found.numpy())
    features: Array = np.load(cached).astype(np.float64)
    return features


def _judge(name: str, images: Images) -> None:
    classes = int(images.y.max()) + 1
    cells = []
    for each in EACH:
        rows = [_drawn(images.y, each, seed) for seed in range(DRAWS)]
        heads = [solve(images.x[row], images.y[row], classes) for row in rows]
        accuracies = [balanced_accuracy(images.test_y, head.logits(images.test_x)) for head in heads]
        own = [cross_validated(images.x[row], images.y[row], images.groups[row], classes) for row in rows]
        told = [balanced_accuracy(images.y[row], of) for row, of in zip(rows, own, strict=True) if of is not None]
        low, median, high = np.quantile(accuracies, [0, 0.5, 1])
        cells.append(f"{median:.2f} ({low:.2f} to {high:.2f}); says {np.median(told):.2f}")
    started = time.perf_counter()
    head = solve(images.x[images.used], images.y[images.used], classes)
    seconds = time.perf_counter() - started
    whole = balanced_accuracy(images.test_y, head.logits(images.test_x))
    print(f"| {name} | {' | '.join(cells)} | {whole:.2f} | {images.trained:.2f} |  ({len(images.test_y)} test images, ")
    print(f"    the head of {len(images.used)} images in {seconds:.2f} s)", flush=True)


def _compare(name: str, images: Images, strengths: list[float]) -> None:
    classes = int(images.y.max()) + 1
    for strength in strengths:
        cells = []
        for each in (*EACH, None):
            accuracies = []
            for seed in range(5):
                fitted, asked = group_folds(images.y, [str(group) for group in images.groups], seed)[0]
                rows = fitted if each is None else fitted[_drawn(images.y[fitted], each, seed)]
                head = solve(images.x[rows], images.y[rows], classes, strength)
                accuracies.append(balanced_accuracy(images.y[asked], head.logits(images.x[asked])))
            cells.append(f"{each or 'all'}: {np.median(accuracies):.3f}")
        print(f"{name}, strength {strength:g}: {', '.join(cells)}", flush=True)


def _drawn(labels: Indices, each: int, seed: int) -> Indices:
    draw = np.random.default_rng(seed)
    of_class = [draw.choice(np.flatnonzero(labels == label), each, replace=False) for label in np.unique(labels)]
    return np.sort(np.concatenate(of_class))


if __name__ == "__main__":
    main()
