"""Writes the adapter file of a first draft: a solved head, no deltas, and a record that says what it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lensmount_adapters.adapter.admission import HEAD_ONLY
from lensmount_adapters.adapter.file import dump_adapter
from lensmount_adapters.adapter.manifest import LinearHead, Manifest
from lensmount_adapters.adapter.precision import record_of
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.draft.choice import Known
from lensmount_adapters.draft.solve import Array, balanced_accuracy, cross_validated, solve, temperature_of
from lensmount_adapters.inputs.rules import InputRule

RECORD = "draft"  # of the training record: a manifest that has it is one of a draft


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """The bytes of the file, the images of each class, and the cross-validated balanced accuracy if there is one."""

    data: bytes
    counts: dict[str, int]
    balanced_accuracy: float | None


def is_draft(manifest: Manifest) -> bool:
    """Whether the adapter is a first draft, and not a trained one."""
    return isinstance(manifest.training.get(RECORD), dict)


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """What a draft is a head of: the backbone, where its weights are from, and how images are prepared for it."""

    backbone: Backbone
    weights: str | None
    rule: InputRule


def make_draft(name: str, classes: Sequence[str], images: Sequence[Known], features: Array, basis: Basis) -> Draft:
    """Solve the head for `features` [N, feature_dim] of `images`, which the basis's rule prepared.

    The balanced accuracy and the temperature are those of the scores that each image gets from a head that was solved
    without its group. Both are missing if a class has a single group.
    """
    labels = np.array([image.label for image in images], np.int64)
    groups = groups_of(images)
    solved = solve(features, labels, len(classes))
    held_out = cross_validated(features, labels, groups, len(classes))
    accuracy = None if held_out is None else balanced_accuracy(labels, held_out)
    temperature = 1.0 if held_out is None else temperature_of(labels, held_out)
    counted = Counter(classes[label] for label in labels)
    counts = {label: counted[label] for label in classes}
    manifest = Manifest(
        name=name,
        method=HEAD_ONLY,
        backbone=basis.backbone.ref,
        preprocessing=basis.rule,
        labels=tuple(classes),
        head=LinearHead(temperature=float(f"{temperature:.6g}")),
        training={
            **record_of(basis.backbone),
            "weights": basis.weights,
            RECORD: {"images": len(images), "classes": counts, "balanced_accuracy": _rounded(accuracy)},
        },
        description="A first draft: a head on the frozen network, to be replaced by a trained adapter.",
    )
    tensors = {"head.weight": torch.from_numpy(solved.weight), "head.bias": torch.from_numpy(solved.bias)}
    return Draft(dump_adapter(manifest, tensors, torch.float32), counts, _rounded(accuracy))


def groups_of(images: Sequence[Known]) -> np.ndarray:
    """The number of each image's group [N]. Images with the same bytes are of one group."""
    first: dict[str, str] = {}
    names = [first.setdefault(image.digest, image.group) for image in images]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _rounded(accuracy: float | None) -> float | None:
    return None if accuracy is None else round(accuracy, 4)
