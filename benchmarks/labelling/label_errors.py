"""Planted faults of real data sets that a review finds: wrong labels, look-alikes and a shortcut.

    python -m benchmarks.labelling.label_errors --data ../shared/data --cache build/features [--compare]

The features of each set are computed once and kept in the cache. Labels are flipped with ten seeds that chose nothing:
the strength of the head was chosen on other seeds (0 to 2). "at k" means among as many images as were flipped.
`--compare` only compares ways to get the probabilities: heads of three splits into folds, the 15 nearest neighbours, a
support vector machine with a Gaussian kernel, and their geometric means.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from benchmarks.shared import machine
from PIL import Image, ImageOps

from lensmount_adapters import Backbone, load_backbone
from lensmount_adapters.data.dataset import ImageFolder, read_folder
from lensmount_adapters.data.image_facts import facts_of
from lensmount_adapters.data.near_duplicates import alike
from lensmount_adapters.inputs.images import resize
from lensmount_adapters.inputs.prepare import normalise
from lensmount_adapters.inputs.rules import Preprocessing
from lensmount_adapters.quality.features import pooled_features
from lensmount_adapters.quality.label_issues import find_label_issues
from lensmount_adapters.quality.neighbours import alike_pairs, nearest_neighbours
from lensmount_adapters.quality.out_of_fold import group_folds, out_of_fold_probabilities, standardised
from lensmount_adapters.quality.shortcuts import find_shortcuts
from lensmount_adapters.quality.surface import Surface, columns_of, surface_of

SETS = {
    "malaria-nih": r"^(.*?)_?[tT]hin",
    "malaria-nih-gray50": r"^(.*?)_?[tT]hin",
    "histology-lc25000-lung": r"_(g\d+)_",
    "smoking": None,
}
SEEDS = range(10, 20)
NEIGHBOURS = 15
PLANTED = 60  # changed copies of each kind


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--cache", type=Path, required=True)
    arguments.add_argument("--sets", nargs="+", default=list(SETS))
    arguments.add_argument("--seeds", type=int, default=len(SEEDS))
    arguments.add_argument("--compare", action="store_true")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    print(machine.describe())
    backbone = load_backbone()
    options.cache.mkdir(parents=True, exist_ok=True)
    for name in options.sets:
        folder = read_folder(options.data / name, SETS[name])
        features = cached(options.cache / f"{name}.npz", folder, backbone)
        measured = compared if options.compare else wrong_labels
        for line in measured(name, folder, features, SEEDS[: options.seeds]):
            print(line, flush=True)
    if options.compare:
        return
    for name in options.sets:
        folder = read_folder(options.data / name, SETS[name])
        if len(folder) < 2000:
            features = cached(options.cache / f"{name}.npz", folder, backbone)
            print(look_alikes(name, folder, features, backbone), flush=True)
            print(shortcut(name, folder), flush=True)


def cached(file: Path, folder: ImageFolder, backbone: Backbone) -> np.ndarray:
    if not file.exists():
        np.savez(file, x=pooled_features(folder, backbone))
    features: np.ndarray = np.load(file)["x"]
    return features


def wrong_labels(name: str, folder: ImageFolder, features: np.ndarray, seeds: range) -> list[str]:
    """Rows: set, share flipped, precision at k, recall at 2k, recall and precision of the flags, flags, seconds."""
    labels, groups = folder.labels().numpy(), [sample.group for sample in folder.samples]
    classes = len(folder.classes)
    started = time.perf_counter()
    probabilities = out_of_fold_probabilities(features, labels, groups, classes)
    issues = find_label_issues(labels, probabilities)
    nearest_neighbours(features)
    seconds = time.perf_counter() - started
    right = (probabilities.argmax(axis=1) == labels).mean()
    rows = [f"{name}: accuracy of the head {right:.3f}, flags {issues.flags.mean():.1%}, {seconds:.1f} s"]
    for share in (0.05, 0.10):
        found = []
        for seed in seeds:
            given, wrong = flipped(labels, share, seed, classes)
            issues = find_label_issues(given, out_of_fold_probabilities(features, given, groups, classes, seed=seed))
            order, k = issues.ranked(), int(wrong.sum())
            hits = (issues.flags & wrong).sum()
            found.append(
                (wrong[order[:k]].mean(), wrong[order[: 2 * k]].sum() / k, hits / k, hits / max(1, issues.flags.sum()))
            )
        figures, spread = np.mean(found, axis=0), np.std(found, axis=0)
        words = ("at k", "recall at 2k", "recall of flags", "precision of flags")
        texts = [f"{word} {mean:.2f} ± {sd:.2f}" for word, mean, sd in zip(words, figures, spread, strict=True)]
        rows.append(f"  {share:.0%} flipped: {', '.join(texts)}")
    return rows


# Other ways to the probabilities


def of_neighbours(features: np.ndarray, labels: np.ndarray, groups: list[str], classes: int, seed: int) -> np.ndarray:
    """By the labels of the nearest images of other folds, weighed by their similarity; every class counts as much."""
    points = standardised(features)
    points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-9)
    found = np.full((len(labels), classes), np.nan)
    for fitted, asked in group_folds(labels, groups, seed):
        alike = points[asked] @ points[fitted].T
        nearest = np.argpartition(-alike, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        weights = np.exp(8 * np.take_along_axis(alike, nearest, 1))
        votes = np.stack([(weights * (labels[fitted][nearest] == c)).sum(1) for c in range(classes)], axis=1)
        shares = votes / votes.sum(1, keepdims=True) / np.bincount(labels[fitted], minlength=classes) + 1e-6
        found[asked] = shares / shares.sum(1, keepdims=True)
    return found


def of_kernel(features: np.ndarray, labels: np.ndarray, groups: list[str], classes: int, seed: int) -> np.ndarray:
    from sklearn.svm import SVC

    points, found = standardised(features), np.full((len(labels), classes), np.nan)
    for fitted, asked in group_folds(labels, groups, seed):
        kernel = SVC(C=3.0, gamma=0.5 / features.shape[1], class_weight="balanced").fit(points[fitted], labels[fitted])
        margins = kernel.decision_function(points[asked])
        margins = np.stack([-margins, margins], axis=1) if classes == 2 else 2 * margins
        powers = np.exp(margins - margins.max(1, keepdims=True))
        found[asked] = powers / powers.sum(1, keepdims=True)
    return found


def together(*probabilities: np.ndarray) -> np.ndarray:
    """Their geometric mean, which adds up to 1."""
    mean = np.exp(np.mean([np.log(np.clip(each, 1e-6, 1)) for each in probabilities], axis=0))
    shares: np.ndarray = mean / mean.sum(1, keepdims=True)
    return shares


def compared(name: str, folder: ImageFolder, features: np.ndarray, seeds: range) -> list[str]:
    """Rows: the way, the share found at k among 5 % flipped labels, and the share flagged as published."""
    labels, groups = folder.labels().numpy(), [sample.group for sample in folder.samples]
    classes = len(folder.classes)
    found: dict[str, list[float]] = {}
    flags: dict[str, float] = {}
    for seed in (None, *seeds):
        given, wrong = (labels, None) if seed is None else flipped(labels, 0.05, seed, classes)
        start = seed or 0
        heads = [out_of_fold_probabilities(features, given, groups, classes, seed=start + 100 * n) for n in range(3)]
        near = of_neighbours(features, given, groups, classes, start)
        kernel = of_kernel(features, given, groups, classes, start)
        ways = {"head": heads[0], "3 heads": together(*heads), "neighbours": near, "kernel": kernel}
        ways |= {"head and neighbours": together(heads[0], near), "head and kernel": together(heads[0], kernel)}
        for way, probabilities in ways.items():
            issues = find_label_issues(given, probabilities)
            if wrong is None:
                flags[way] = float(issues.flags.mean())
            else:
                found.setdefault(way, []).append(float(wrong[issues.ranked()[: int(wrong.sum())]].mean()))
    return [
        f"{name}, {way}: at k {np.mean(at_k):.2f} ± {np.std(at_k):.2f}, flags as published {flags[way]:.1%}"
        for way, at_k in found.items()
    ]


def flipped(labels: np.ndarray, share: float, seed: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which a share is another class, and which those are."""
    draw = np.random.default_rng(seed)
    at = draw.choice(len(labels), round(share * len(labels)), replace=False)
    given, wrong = labels.copy(), np.zeros(len(labels), bool)
    given[at] = (given[at] + draw.integers(1, classes, len(at))) % classes
    wrong[at] = True
    return given, wrong


def jpeg(image: Image.Image, quality: int = 50) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _again(image: Image.Image) -> Image.Image:
    return Image.open(io.BytesIO(jpeg(image))).convert("RGB")


def _crop(image: Image.Image) -> Image.Image:
    width, height = image.size
    return image.crop((width // 20, height // 20, width - width // 20, height - height // 20))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "mirrored": ImageOps.mirror,
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "JPEG 50": _again,
    "half size": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC),
    "middle 90 %": _crop,
}


def look_alikes(name: str, folder: ImageFolder, features: np.ndarray, backbone: Backbone) -> str:
    """The share of changed copies that are found, and the pairs of different groups that are found without any."""
    chosen = np.random.default_rng(0).choice(len(folder), PLANTED, replace=False)
    originals = [Image.open(io.BytesIO(folder.read(sample.path))).convert("RGB") for sample in folder.samples]
    before = [surface(image, folder, index).facts.likeness for index, image in enumerate(originals)]
    groups = [sample.group for sample in folder.samples]
    found = {tuple(pair) for pair in alike_pairs(nearest_neighbours(features)).tolist()}
    found |= {(int(i), int(j)) for block in alike(before) for i, j, _ in block}
    extra = sum(groups[i] != groups[j] for i, j in found)
    shares = []
    for word, change in CHANGES.items():
        images = [change(originals[index]) for index in chosen]
        added = np.stack([features_of(image, backbone) for image in images])
        pairs = {tuple(p) for p in alike_pairs(nearest_neighbours(np.concatenate([features, added]))).tolist()}
        likeness = [
            surface(image, folder, int(index)).facts.likeness for image, index in zip(images, chosen, strict=True)
        ]
        pairs |= {(int(i), int(j)) for block in alike(before + likeness) for i, j, _ in block}
        hits = sum((int(index), len(folder) + at) in pairs for at, index in enumerate(chosen))
        shares.append(f"{word} {hits / PLANTED:.2f}")
    return f"{name}: {', '.join(shares)}; {extra} pairs of different groups among {len(folder)} images"


def features_of(image: Image.Image, backbone: Backbone) -> np.ndarray:
    rule = backbone.preprocessing
    assert isinstance(rule, Preprocessing)
    rule = rule.model_copy(update={"resize": "squash", "crop_fraction": 1.0})
    pixels = torch.from_numpy(np.array(resize(image, rule))).permute(2, 0, 1)
    features: np.ndarray = backbone.features(normalise(pixels[None], rule))[0].numpy()
    return features


def surface(image: Image.Image, folder: ImageFolder, index: int, data: bytes = b"\x89PNG") -> Surface:
    sample = folder.samples[index]
    return surface_of(image, facts_of(data, image, sample.path, folder.classes[sample.label]))


def shortcut(name: str, folder: ImageFolder) -> str:
    """What is reported for the set as it is, and if the first class is saved once more as JPEG of quality 50."""
    labels, groups = folder.labels().numpy(), [sample.group for sample in folder.samples]
    texts = []
    for planted in (False, True):
        surfaces = []
        for index, sample in enumerate(folder.samples):
            data = folder.read(sample.path)
            image = Image.open(io.BytesIO(data)).convert("RGB")
            if planted and sample.label == 0:
                data, image = jpeg(image), _again(image)
            one = surface(image, folder, index, data)
            surfaces.append(replace(one, facts=replace(one.facts, path=sample.path)))
        found = find_shortcuts(columns_of(surfaces), labels, groups, folder.classes)
        texts.append(", ".join(f"{each.kind} tells {each.label} ({each.auroc:.2f})" for each in found) or "nothing")
    return f"{name}: as it is {texts[0]}; first class saved as JPEG 50: {texts[1]}"


if __name__ == "__main__":
    main()
