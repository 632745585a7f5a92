"""The gate: a new adapter is published only if it is no worse than the one it would replace, on the same images."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.adapter.heads import probabilities
from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.data.dataset import read_folder
from lensmount_adapters.errors import AdapterError, BackboneMismatch
from lensmount_adapters.inputs.prepare import suffixes_of
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
    candidate: NewAdapter, old: Replaced | None, old_accuracy: float | str | None, margin: float, force: bool
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
    if new is None:
        return verdict(False, "there is no test part to compare on", old_accuracy)
    figures = f"balanced accuracy {new:.4f} on the {candidate.part} part, version {old.version} has {old_accuracy:.4f}"
    if new < old_accuracy - margin:
        return verdict(False, f"{figures}: worse by more than the margin of {margin:g}", old_accuracy)
    return verdict(True, f"{figures}: not worse by more than the margin of {margin:g}", old_accuracy)


def accuracy_of(data: bytes, candidate: NewAdapter, folder: Path, backbone: Backbone) -> float | str | None:
    """Balanced accuracy of another adapter's file on the candidate's own part, or the reason why there is none.

    None if the adapter was made for another backbone: it serves nobody here, so nothing is lost by replacing it.
    """
    try:
        adapter = admit(data, backbone)
    except BackboneMismatch:
        return None
    except AdapterError as error:
        return f"the adapter that it would replace cannot be evaluated here ({error})"
    labels = candidate.manifest.labels
    if sorted(adapter.manifest.labels) != sorted(labels):
        return (
            f"the labels differ: found {', '.join(labels)}, expected {', '.join(adapter.manifest.labels)} as in the "
            "adapter that it would replace"
        )
    if candidate.balanced_accuracy is None:
        return "there is no test part to compare on"
    group_regex = candidate.manifest.training["split"]["group_regex"]
    images = read_folder(folder, group_regex, labels, suffixes_of(candidate.manifest.preprocessing))
    samples = reproduce_split(candidate.manifest, images, candidate.part)
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
