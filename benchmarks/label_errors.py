"""Planted faults of real data sets that a review finds: wrong labels, look-alikes and a shortcut.

    python benchmarks/label_errors.py --data ../shared/data --cache build/features

The features of each set are computed once and kept in the cache. Labels are flipped with ten seeds that chose nothing:
the strength of the head was chosen on other seeds (0 to 2). "at k" means among as many images as were flipped.
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
from PIL import Image, ImageOps
from shared import machine  # type: ignore[import-not-found]  # in this folder; mypy starts at the repository's root

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
from lensmount_adapters.quality.out_of_fold import out_of_fold_probabilities
from lensmount_adapters.quality.shortcuts import find_shortcuts
from lensmount_adapters.quality.surface import Surface, columns_of, surface_of

SETS = {
    "malaria-nih": r"^(.*?)_?[tT]hin",
    "malaria-nih-gray50": r"^(.*?)_?[tT]hin",
    "histology-lc25000-lung": r"_(g\d+)_",
    "smoking": None,
}
SEEDS = range(10, 20)
PLANTED = 60  # changed copies of each kind


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--cache", type=Path, required=True)
    arguments.add_argument("--sets", nargs="+", default=list(SETS))
    arguments.add_argument("--seeds", type=int, default=len(SEEDS))
    options = arguments.parse_args()
    torch.set_num_threads(1)
    print(machine.describe())
    backbone = load_backbone()
    options.cache.mkdir(parents=True, exist_ok=True)
    for name in options.sets:
        folder = read_folder(options.data / name, SETS[name])
        features = cached(options.cache / f"{name}.npz", folder, backbone)
        for line in wrong_labels(name, folder, features, SEEDS[: options.seeds]):
            print(line, flush=True)
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
