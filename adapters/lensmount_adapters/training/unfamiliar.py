"""The statistics by which a trained adapter tells unfamiliar images: its own images behind the frozen trunk.

The trunk does not learn, so all images but those of the test part may be used, also those of validation and
calibration. Each image comes as it is and in one mild copy (augmentation/mild.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.adapter.trust import UNSEALED, Trust
from lensmount_adapters.augmentation.mild import MILD
from lensmount_adapters.data.dataset import ImageFolder, Sample
from lensmount_adapters.graph.pooling import pooling_of, space_of
from lensmount_adapters.inputs.images import decode_image, resize
from lensmount_adapters.inputs.prepare import normalise, pixels_of
from lensmount_adapters.inputs.rules import InputRule, VolumePreprocessing
from lensmount_adapters.training.loop import TrainingLoop
from lensmount_adapters.training.training_data import TrainingData
from lensmount_adapters.trust.familiarity import LEAST_OF_A_CLASS, Pooled, fit_familiarity, why_not

MOST_IMAGES = 512
BATCH = 8  # as in training/answer.py
RECORD = "unfamiliar"  # of the training record


def with_familiarity(
    loop: TrainingLoop, data: TrainingData, manifest: Manifest, dtype: torch.dtype
) -> tuple[Manifest, dict[str, Tensor]]:
    """The manifest with what tells unfamiliar images, and its tensors, to be stored as `dtype`.

    Without enough images or without a trunk there are none, and the manifest's training record says why.
    """
    if loop.config.calibration == "off":
        return _recorded(manifest, {"images": None, "why": "calibration is off"}), {}
    if loop.adapter.trunk is None:
        return _recorded(manifest, {"images": None, "why": "no layer stays frozen before the first trained one"}), {}
    pooled, classes = _pooled(loop, data), len(data.labels)
    reason = why_not(pooled, classes, dtype.itemsize)
    if reason is not None:
        return _recorded(manifest, {"images": None, "why": reason}), {}
    space = space_of(loop.backbone, loop.adapter.cut)
    familiarity, statistics = fit_familiarity(pooled, classes, space, dtype.itemsize)
    trust = manifest.trust or Trust(familiarity=familiarity)
    trust = trust.model_copy(update={"familiarity": familiarity, "of": UNSEALED})
    manifest = _recorded(manifest.model_copy(update={"trust": trust}), {"images": familiarity.images})
    return manifest, statistics.tensors()


def _recorded(manifest: Manifest, facts: dict[str, Any]) -> Manifest:
    return manifest.model_copy(update={"training": {**manifest.training, RECORD: facts}})


def _pooled(loop: TrainingLoop, data: TrainingData) -> Pooled:
    parts = data.split.parts()
    known = [data.folder.samples[index] for part in parts if part != "test" for index in parts[part]]
    chosen = _drawn(known, loop.config.seed)
    vectors: list[Tensor] = []
    rule = data.preprocessing
    for copied in (False,) if isinstance(rule, VolumePreprocessing) else (False, True):
        for pixels in _batches(data.folder, chosen, rule, copied=copied):
            activations = loop.adapter.activations(normalise(pixels, rule), loop.precision)
            vectors.append(pooling_of(loop.backbone, activations)(activations).cpu())
    rows = sum(map(len, vectors))
    image = np.arange(rows) % max(1, len(chosen))
    _, group = np.unique([sample.group for sample in chosen], return_inverse=True)
    label = np.array([sample.label for sample in chosen], np.int64)
    stacked = torch.cat(vectors).double().numpy() if vectors else np.zeros((0, 1))
    return Pooled(stacked, image, label[image], group[image])


def _drawn(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """At most `MOST_IMAGES`, drawn from `seed`, the first few of each class before all others."""
    order = np.random.default_rng(seed).permutation(len(samples))
    seen: Counter[int] = Counter()
    places: list[tuple[int, Sample]] = []
    for sample in (samples[index] for index in order):
        places.append((min(seen[sample.label], LEAST_OF_A_CLASS), sample))
        seen[sample.label] += 1
    return [sample for _, sample in sorted(places, key=lambda pair: pair[0])][:MOST_IMAGES]


def _batches(folder: ImageFolder, samples: Sequence[Sample], rule: InputRule, *, copied: bool) -> Iterator[Tensor]:
    """The pixels of the samples, or of a mild copy of each, as a server sees them before normalisation."""
    for start in range(0, len(samples), BATCH):
        numbered = list(enumerate(samples))[start : start + BATCH]
        yield torch.stack([_pixels(folder, sample, rule, number if copied else None) for number, sample in numbered])


def _pixels(folder: ImageFolder, sample: Sample, rule: InputRule, number: int | None) -> Tensor:
    data = folder.read(sample.path)
    if number is None or isinstance(rule, VolumePreprocessing):
        return pixels_of(data, rule, folder.limits)
    copy = MILD[number % len(MILD)](decode_image(data, folder.limits))
    return torch.from_numpy(np.array(resize(copy, rule))).permute(2, 0, 1)
