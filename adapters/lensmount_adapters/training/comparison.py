"""Compare the answers of an adapter with those of what it was made from, on the same labelled images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.adapter.heads import probabilities
from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.data.dataset import ImageFolder, Sample
from lensmount_adapters.metrics.classification import ClassificationMetrics, measure
from lensmount_adapters.training.answer import served_logits
from lensmount_adapters.training.evaluate import read_samples, require_classes


@dataclass(frozen=True, slots=True)
class Comparison:
    """Figures on the same images: of what the adapter was made from (`before`), and of the adapter (`after`).

    `same_answers` is the share of images with the same best class. `logits_error` is |after - before| / |before|.
    """

    images: int
    before: ClassificationMetrics
    after: ClassificationMetrics
    same_answers: float
    logits_error: float

    def to_json(self) -> dict[str, Any]:
        return {
            "images": self.images,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "same_answers": self.same_answers,
            "logits_error": self.logits_error,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """The labelled images of a folder, whose classes are the labels of a manifest."""

    folder: ImageFolder
    samples: tuple[Sample, ...]
    manifest: Manifest

    @classmethod
    def of(cls, data: Path, manifest: Manifest) -> Images:
        """All images of the folder. Raises DatasetError, also for an adapter that answers with masks."""
        require_classes(manifest)
        folder, samples = read_samples(manifest, data, "all")
        return cls(folder, tuple(samples), manifest)

    def logits(self, adapter: Adapter, backbone: Backbone) -> Tensor:
        """Logits [N, classes] of the adapter, mounted."""
        return served_logits(adapter, backbone, self.folder, self.samples)

    def compare(self, before: Tensor, after: Tensor) -> Comparison:
        """`before` and `after` are logits [N, classes], both scored by the manifest's head."""
        truth = torch.tensor([sample.label for sample in self.samples])
        first, second = (
            measure(truth, probabilities(self.manifest.head, logits), self.manifest.labels)
            for logits in (before, after)
        )
        same = float((before.argmax(1) == after.argmax(1)).float().mean())
        return Comparison(len(truth), first, second, same, float((after - before).norm() / before.norm()))
