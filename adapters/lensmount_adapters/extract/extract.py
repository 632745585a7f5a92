"""A network that was fine-tuned as a whole becomes an adapter: low-rank factors of what changed, and its classifier.

For each weight with two or more dimensions, the change `D = fine-tuned - base` is replaced by its best approximation of
a chosen rank; biases, norms, statistics, tokens and position embeddings are kept exactly. Source: kohya's
extract_lora_from_models.py; arXiv 2106.09685, section 7, shows why a few ranks are often enough.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import torch

from lensmount_adapters.adapter.admission import HEAD_ONLY, admit
from lensmount_adapters.adapter.file import dump_adapter
from lensmount_adapters.adapter.header import Limits
from lensmount_adapters.adapter.manifest import LinearHead, Manifest
from lensmount_adapters.adapter.precision import record_of
from lensmount_adapters.adapter.rounding import rounded
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.changes.budget import Budget, Ranks
from lensmount_adapters.changes.changes import Changes, LayerReport
from lensmount_adapters.errors import AdapterInvalid
from lensmount_adapters.extract.checkpoint import Checkpoint
from lensmount_adapters.extract.fitted import Fitted, fit
from lensmount_adapters.inputs.rules import InputRule

METHOD = "extracted"
UNRELATED = 0.9  # |D| / |W| of weights that do not come from the base is about 1.4


@dataclass(frozen=True, slots=True)
class Words:
    """What the adapter says about itself. `weights` says where the base came from, as in `lensmount train`."""

    name: str
    labels: tuple[str, ...] = ()
    preprocessing: InputRule | None = None
    weights: str | None = None
    license: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class ExtractReport:
    """`error` is |D - stored| / |D| over all changed matrices and kernels; `notes` are sentences for the user."""

    layers: tuple[LayerReport, ...]
    unchanged: int
    error: float
    size_bytes: int
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class Extracted:
    """The bytes of the adapter file, its manifest, its report, and the fine-tuned weights in the backbone's names."""

    data: bytes
    manifest: Manifest
    report: ExtractReport
    fitted: Fitted


def extract(
    checkpoint: Checkpoint, backbone: Backbone, budget: Budget, words: Words, dtype: torch.dtype = torch.float16
) -> Extracted:
    """Return the adapter whose merged weights come closest to those of the checkpoint.

    Raises AdapterInvalid if the checkpoint is of another network or the labels are not as many as its classes, and
    AdapterTooLarge if the budget is smaller than what is stored exactly.
    """
    fitted = fit(checkpoint, backbone)
    changes = _changes(checkpoint, backbone, fitted)
    manifest = _manifest(checkpoint, backbone, words, len(fitted.head_weight))
    head = {"head.weight": fitted.head_weight, "head.bias": fitted.head_bias}

    def file(ranks: Ranks) -> tuple[bytes, Manifest, ExtractReport]:
        tensors, modules = changes.stored(ranks)
        layers = changes.layers(rounded(tensors, dtype)[0])
        error = changes.error(layers)
        training = {**manifest.training, "extraction": {"error": error, "changed_tensors": len(layers)}}
        method = METHOD if tensors else HEAD_ONLY
        written = manifest.model_copy(update={"method": method, "modules": modules, "training": training})
        data = dump_adapter(written, {**tensors, **head}, dtype)
        unchanged = len(backbone.tensors) - len(layers)
        return data, written, ExtractReport(layers, unchanged, error, len(data), (*fitted.notes, *_notes(layers)))

    data, written, report = file(budget.ranks(changes.spectra, lambda ranks: len(file(ranks)[0]), dtype.itemsize))
    admit(data, backbone, Limits(max_file_bytes=max(len(data), Limits().max_file_bytes)))
    return Extracted(data, written, report, fitted)


def _changes(checkpoint: Checkpoint, backbone: Backbone, fitted: Fitted) -> Changes:
    base = {name: own.detach().to("cpu") for name, own in backbone.base(backbone.tensors).items()}
    changed = {name: D for name, W in base.items() if (D := fitted.weights[name].double() - W.double()).any()}
    if fixed := next((name for name in changed if name not in backbone.targets), None):
        raise AdapterInvalid(
            f"{checkpoint.file}: {fixed}: found another value than the backbone's, expected the same: an adapter "
            "cannot change this tensor. Fix: train with it as it is",
            code="adapter_unknown_target",
        )
    return Changes.of(backbone, changed)


def _manifest(checkpoint: Checkpoint, backbone: Backbone, words: Words, classes: int) -> Manifest:
    labels = words.labels or checkpoint.labels
    if len(labels) != classes:
        found = f"{len(labels)} labels" if labels else "no names for them"
        raise AdapterInvalid(
            f"{checkpoint.file}: found a classifier of {classes} classes and {found}, expected one name for each. "
            "Fix: --labels with all names in the order of the training, as in --labels cat,dog, or --labels FILE",
            code="head_mismatch",
        )
    preprocessing = words.preprocessing or backbone.preprocessing
    document = {
        "name": words.name,
        "method": METHOD,
        "backbone": backbone.ref.model_dump(),
        "preprocessing": preprocessing.model_dump(mode="json"),
        "labels": list(labels),
        "head": LinearHead().model_dump(),
        "training": {"extracted_from": checkpoint.file, "entry": checkpoint.key, "weights": words.weights}
        | record_of(backbone),
        "license": words.license,
        "description": words.description,
    }
    return Manifest.parse(json.dumps(document))


def _notes(layers: tuple[LayerReport, ...]) -> list[str]:
    """What a user should know before relying on the adapter."""
    if not layers:
        return ["the network's weights are those of the backbone: the adapter is a classifier alone"]
    matrices = [layer.change or 0.0 for layer in layers if len(layer.shape) > 1]
    if matrices and sorted(matrices)[len(matrices) // 2] > UNRELATED:
        return [
            "half of the weights changed by more than 90 % of their size: the network was probably not fine-tuned from "
            "these weights, and low ranks will not hold it. Give the base that it was trained from with --base and "
            "--weights"
        ]
    return []
