"""The outcome of a training run: the manifest, the scores on each part of the split, and the result."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.adapter.precision import RECORD as ROUNDED
from lensmount_adapters.data.dataset import ImageFolder
from lensmount_adapters.metrics.classification import ClassificationMetrics
from lensmount_adapters.metrics.scored import ScoredPart
from lensmount_adapters.options.json_values import as_json
from lensmount_adapters.programs.precision import precision_name
from lensmount_adapters.quality.label_notes import notes_about_labels
from lensmount_adapters.training.answer import scored_part, served_logits
from lensmount_adapters.training.checkpoint import checkpoint_path
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.loop import TrainingLoop
from lensmount_adapters.training.training_data import TrainingData
from lensmount_adapters.trust.scaling import fit_temperature


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """The written adapter file and its figures.

    `scored` has the parts "validation" and "test" of the split, each only if it has images. Their figures are measured
    with the contents of the file, read back.
    """

    path: Path
    digest: str
    size_bytes: int
    manifest: Manifest
    scored: Mapping[str, ScoredPart]
    interrupted: bool
    notes: tuple[str, ...]
    folder: ImageFolder

    @property
    def judged(self) -> Mapping[str, ScoredPart]:
        """The old name of `scored`, kept for one release."""
        return self.scored

    @property
    def validation(self) -> ClassificationMetrics | None:
        return self.scored["validation"].metrics if "validation" in self.scored else None

    @property
    def test(self) -> ClassificationMetrics | None:
        return self.scored["test"].metrics if "test" in self.scored else None

    @property
    def record(self) -> dict[str, Any]:
        return self.manifest.training


def manifest_of(loop: TrainingLoop, interrupted: bool) -> Manifest:
    """The manifest of the file, without the temperature and the metrics: `score_parts` adds these."""
    config = loop.config
    return Manifest(
        name=config.name,
        method=config.method,
        backbone=loop.backbone.ref,
        preprocessing=loop.objective.preprocessing,
        labels=loop.objective.labels,
        head=loop.head,
        modules=loop.adapter.modules,
        training=_record(loop, interrupted),
        license=config.license,
        description=config.description,
    )


def score_parts(
    loop: TrainingLoop, data: TrainingData, manifest: Manifest, adapter: Adapter
) -> tuple[Manifest, dict[str, ScoredPart]]:
    """Score the validation and test parts with `adapter`.

    Returns the manifest with the metrics, and the scores of each part. The temperature is fitted on validation unless a
    calibration has fitted it already.
    """
    logits = {
        part: served_logits(adapter, loop.backbone, data.folder, data.samples(part), network=loop.network)
        for part in ("validation", "test")
        if data.samples(part)
    }
    calibrated = manifest.trust is not None and manifest.trust.calibration is not None
    if "validation" in logits and not calibrated:
        fitted = fit_temperature(logits["validation"], data.validation_labels)
        manifest = manifest.model_copy(update={"head": loop.head.model_copy(update={"temperature": fitted})})
    scored = {part: scored_part(manifest, data.samples(part), part_logits) for part, part_logits in logits.items()}
    figures = as_json({part: scored_part.metrics.to_json() for part, scored_part in scored.items()})
    return manifest.model_copy(update={"training": {**manifest.training, "metrics": figures}}), scored


def result_of(
    loop: TrainingLoop,
    data: TrainingData,
    manifest: Manifest,
    digest: str,
    scored: Mapping[str, ScoredPart],
    interrupted: bool,
) -> TrainingResult:
    """The result for the written file. Deletes the checkpoint if the run was not interrupted."""
    if not interrupted:
        checkpoint_path(loop.config.out).unlink(missing_ok=True)
    return TrainingResult(
        path=loop.config.out,
        digest=digest,
        size_bytes=loop.config.out.stat().st_size,
        manifest=manifest,
        scored=scored,
        interrupted=interrupted,
        notes=(*data.folder.notes, *notes_about_labels(scored, manifest.labels), *_kept(manifest)),
        folder=data.folder,
    )


def _kept(manifest: Manifest) -> tuple[str, ...]:
    """What `dump_adapter` says of tensors that it kept in float32."""
    kept = manifest.training.get("kept_float32")
    return () if kept is None else (str(kept),)


def _record(loop: TrainingLoop, interrupted: bool) -> dict[str, Any]:
    """The training record. With it and the data, the run can be repeated and the split reproduced."""
    config = loop.config
    return {
        **loop.objective.record(),
        **_said(config),
        "hyper_parameters": config.hyper_parameters(),
        "weights": config.weights,
        ROUNDED: dict(loop.backbone.rounded_fingerprints),
        "epochs": {"asked": loop.epochs, "run": len(loop.history), "best": loop.best_epoch},
        "interrupted": interrupted,
        "history": [asdict(record) for record in loop.history],
        "precision": precision_name(loop.precision),
        "trials": loop.trials,
        "trunk": {"cut": loop.adapter.cut, "views": loop.feed.cached_views},
        "seconds": round(loop.seconds(), 1),
        "threads": torch.get_num_threads(),
        "device": str(loop.backbone.device),
        "trainable_parameters": loop.adapter.count(),
        "head_parameters": sum(parameter.numel() for parameter in loop.adapter.head.parameters()),
        "backbone_parameters": sum(p.numel() for p in loop.backbone.module.parameters()),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in _LIBRARIES}
        | {"torch": torch.__version__},  # includes the build, such as +cpu
    }


def _said(config: TrainingConfig) -> dict[str, Any]:
    """What people said about the adapter; nothing if they said nothing."""
    said = {name: value for name in STATEMENTS if (value := getattr(config, name))}
    return {"card": said} if said else {}


STATEMENTS = ("author", "intended_use", "limits", "prevalence")
_LIBRARIES = ("lensmount", "torchvision", "timm", "safetensors", "scikit-learn", "pillow")


@contextmanager
def on_threads(count: int | None) -> Iterator[None]:
    """Inside, torch computes on `count` CPU threads; None keeps the current number."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
