"""The gate: a new adapter is published only if it is no worse than the one it would replace, on the same images.

A first draft was solved on all images of its dataset, those of the compared part too, so its own scores on them say
little. It is solved again without that part, on all other images that the job has, and that is compared.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.adapter.heads import probabilities
from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.data.dataset import ImageFolder, Sample, read_folder
from lensmount_adapters.draft.choice import Known, chosen
from lensmount_adapters.draft.draft import is_draft
from lensmount_adapters.draft.solve import balanced_accuracy, solve
from lensmount_adapters.errors import AdapterError, BackboneMismatch, DatasetError
from lensmount_adapters.inputs.prepare import suffixes_of
from lensmount_adapters.inputs.rules import InputRule
from lensmount_adapters.metrics.classification import measure
from lensmount_adapters.swap.exact import ExactSwapper
from lensmount_adapters.training.answer import predict_samples
from lensmount_adapters.training.evaluate import reproduce_split


@dataclass(frozen=True, slots=True)
class Replaced:
    """The version that the name or alias points at today; `balanced_accuracy` is None if it cannot be measured."""

    name: str
    version: int
    digest: str
    balanced_accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """A draft that was solved again without the compared part; None if too few images of a class are left for it."""

    balanced_accuracy: float | None


OldAccuracy = float | str | Resolved | None
"""A figure, or the reason why there is none, or None for an adapter of another backbone."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the new adapter may be published, and why; figures are balanced accuracies on the same images."""

    passed: bool
    reason: str
    margin: float
    forced: bool
    balanced_accuracy: float | None
    replaced: Replaced | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class NewAdapter:
    """The new adapter: its manifest and its balanced accuracy on `part` of the data, None if there is no such part."""

    manifest: Manifest
    part: str
    balanced_accuracy: float | None


def decide(
    candidate: NewAdapter, old: Replaced | None, old_accuracy: OldAccuracy, margin: float, force: bool
) -> Verdict:
    """Compare the new adapter's balanced accuracy with `old_accuracy`, the result of `accuracy_of`."""
    new = candidate.balanced_accuracy

    def verdict(passed: bool, reason: str, old_figure: float | None = None) -> Verdict:
        if force and not passed:
            reason = f"{reason}; published anyway, because the job says force"
        replaced = old and Replaced(old.name, old.version, old.digest, old_figure)
        return Verdict(passed or force, reason, margin, force, new, replaced)

    if old is None:
        return verdict(True, "there is no earlier version to compare with")
    if old_accuracy is None:
        return verdict(True, "the version that it replaces was made for another backbone")
    if isinstance(old_accuracy, str):
        return verdict(False, old_accuracy)
    whose = f"version {old.version}"
    if isinstance(old_accuracy, Resolved):
        whose = f"{whose}, a draft that was solved again without these images,"
        old_accuracy = old_accuracy.balanced_accuracy
        if old_accuracy is None:
            return verdict(True, f"{whose} has too few other images in a class")
    if new is None:
        return verdict(False, "there is no test part to compare on", old_accuracy)
    figures = f"balanced accuracy {new:.4f} on the {candidate.part} part, {whose} has {old_accuracy:.4f}"
    if new < old_accuracy - margin:
        return verdict(False, f"{figures}: worse by more than the margin of {margin:g}", old_accuracy)
    return verdict(True, f"{figures}: not worse by more than the margin of {margin:g}", old_accuracy)


def accuracy_of(data: bytes, candidate: NewAdapter, folder: Path, backbone: Backbone) -> OldAccuracy:
    """Balanced accuracy of another adapter's file on the candidate's own part, or the reason why there is none.

    None if the adapter was made for another backbone: it serves nobody here, so nothing is lost by replacing it.
    A draft may have other labels: it promised nothing.
    """
    try:
        adapter = admit(data, backbone)
    except BackboneMismatch:
        return None
    except AdapterError as error:
        return f"the adapter that it would replace cannot be evaluated here ({error})"
    labels = candidate.manifest.labels
    draft = is_draft(adapter.manifest)
    if not draft and sorted(adapter.manifest.labels) != sorted(labels):
        return (
            f"the labels differ: found {', '.join(labels)}, expected {', '.join(adapter.manifest.labels)} as in the "
            "adapter that it would replace"
        )
    if candidate.balanced_accuracy is None:
        return "there is no test part to compare on"
    group_regex = candidate.manifest.training["split"]["group_regex"]
    images = read_folder(folder, group_regex, labels, suffixes_of(candidate.manifest.preprocessing))
    samples = reproduce_split(candidate.manifest, images, candidate.part)
    if draft:
        return _solved_again(images, samples, adapter.manifest.preprocessing, backbone)
    swapper = ExactSwapper(backbone)
    swapper.mount(adapter)
    try:
        rule = adapter.manifest.preprocessing
        logits = predict_samples(images, samples, rule, lambda x: adapter.image_logits(backbone, x))
    finally:
        swapper.unmount()
    order = [adapter.manifest.labels.index(label) for label in labels]
    scores = probabilities(adapter.manifest.head, logits)[:, order]  # [N, classes] in the candidate's order
    truth = torch.tensor([sample.label for sample in samples])
    return measure(truth, scores, labels).balanced_accuracy


def _solved_again(folder: ImageFolder, part: list[Sample], rule: InputRule, backbone: Backbone) -> Resolved:
    """The balanced accuracy on `part` of a draft of the other images: as many of them as a draft uses."""
    held_out = set(part)
    known = [
        Known(sample.path, sample.label, sample.group, sample.digest)
        for sample in folder.samples
        if sample not in held_out
    ]
    try:
        used = {image.path for image in chosen(known, folder.classes)}
    except DatasetError:
        return Resolved(None)
    fitted = [sample for sample in folder.samples if sample.path in used]

    def features(samples: list[Sample]) -> np.ndarray:
        return predict_samples(folder, samples, rule, backbone.features).double().numpy()

    labels, truth = (np.array([sample.label for sample in samples], np.int64) for samples in (fitted, part))
    head = solve(features(fitted), labels, len(folder.classes))
    return Resolved(balanced_accuracy(truth, head.logits(features(part))))
