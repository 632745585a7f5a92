"""What a training run leaves behind: the manifest, the scores of each part and the result."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.adapter.heads import probabilities
from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.data.dataset import ImageFolder
from lensmount_adapters.metrics.classification import ClassificationMetrics, measure
from lensmount_adapters.metrics.scored import ScoredPart
from lensmount_adapters.swap.exact import ExactSwapper
from lensmount_adapters.training.answer import predict_samples
from lensmount_adapters.training.checkpoint import checkpoint_path
from lensmount_adapters.training.loop import TrainingLoop
from lensmount_adapters.training.precision import precision_name
from lensmount_adapters.training.schedule import fit_temperature
from lensmount_adapters.training.task import TrainingData


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """The written file and what is known of it; `judged` holds the parts "validation" and "test", where there are any.

    Their figures are those of the file's own contents, read back.
    """

    path: Path
    digest: str
    size_bytes: int
    manifest: Manifest
    judged: Mapping[str, ScoredPart]
    interrupted: bool
    notes: tuple[str, ...]
    folder: ImageFolder

    @property
    def validation(self) -> ClassificationMetrics | None:
        return self.judged["validation"].metrics if "validation" in self.judged else None

    @property
    def test(self) -> ClassificationMetrics | None:
        return self.judged["test"].metrics if "test" in self.judged else None

    @property
    def record(self) -> dict[str, Any]:
        return self.manifest.training


def manifest_of(run: TrainingLoop, interrupted: bool) -> Manifest:
    """What the file will say of itself, but for temperature and metrics, which `score_parts` adds."""
    config = run.config
    return Manifest(
        name=config.name,
        method=config.method,
        backbone=run.backbone.ref,
        preprocessing=run.objective.preprocessing,
        labels=run.objective.labels,
        head=run.head,
        modules=run.adapter.modules,
        training=_record(run, interrupted),
        license=config.license,
        description=config.description,
    )


def score_parts(
    run: TrainingLoop, task: TrainingData, manifest: Manifest, adapter: Adapter
) -> tuple[Manifest, dict[str, ScoredPart]]:
    """The parts of the split as `adapter` answers them; the manifest with its temperature and these metrics."""
    logits = {part: _serve(run, task, adapter, part) for part in ("validation", "test") if task.samples(part)}
    if "validation" in logits:
        fitted = fit_temperature(logits["validation"], task.validation_labels)
        manifest = manifest.model_copy(update={"head": run.head.model_copy(update={"temperature": fitted})})
    judged = {part: _judge(task, manifest, part, found) for part, found in logits.items()}
    figures = {part: one.metrics.to_json() for part, one in judged.items()}
    return manifest.model_copy(update={"training": {**manifest.training, "metrics": _plain(figures)}}), judged


def result_of(
    run: TrainingLoop,
    task: TrainingData,
    manifest: Manifest,
    digest: str,
    judged: Mapping[str, ScoredPart],
    interrupted: bool,
) -> TrainingResult:
    """What is known of the written file; the checkpoint of a whole run goes."""
    if not interrupted:
        checkpoint_path(run.config.out).unlink(missing_ok=True)
    return TrainingResult(
        path=run.config.out,
        digest=digest,
        size_bytes=run.config.out.stat().st_size,
        manifest=manifest,
        judged=judged,
        interrupted=interrupted,
        notes=task.folder.notes,
        folder=task.folder,
    )


def _serve(run: TrainingLoop, task: TrainingData, adapter: Adapter, part: str) -> Tensor:
    """Logits [N, classes] of a part, merged and answered as a server does."""
    swapper = ExactSwapper(run.backbone)
    swapper.mount(adapter)
    try:
        return predict_samples(
            task.folder,
            task.samples(part),
            adapter.manifest.preprocessing,
            lambda images: adapter.image_logits(run.backbone, images),
        )
    finally:
        swapper.unmount()


def _judge(task: TrainingData, manifest: Manifest, part: str, logits: Tensor) -> ScoredPart:
    samples = task.samples(part)
    truth = torch.tensor([sample.label for sample in samples])
    scores = probabilities(manifest.head, logits)
    return ScoredPart(tuple(s.path for s in samples), truth, scores, measure(truth, scores, manifest.labels))


def _record(run: TrainingLoop, interrupted: bool) -> dict[str, Any]:
    """The training record: with it and the data, the run can be repeated and the split reproduced."""
    config = run.config
    return {
        **run.objective.record(),
        "hyper_parameters": config.hyper_parameters(),
        "weights": config.weights,
        "epochs": {"asked": run.epochs, "run": len(run.history), "best": run.best_epoch},
        "interrupted": interrupted,
        "history": [asdict(record) for record in run.history],
        "precision": precision_name(run.precision),
        "trials": run.trials,
        "trunk": {"cut": run.adapter.cut, "views": run.feed.kept},
        "seconds": round(run.seconds(), 1),
        "threads": torch.get_num_threads(),
        "device": str(run.backbone.device),
        "trainable_parameters": run.adapter.count(),
        "head_parameters": sum(parameter.numel() for parameter in run.adapter.head.parameters()),
        "backbone_parameters": sum(p.numel() for p in run.backbone.module.parameters()),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in _LIBRARIES}
        | {"torch": torch.__version__},  # with the build, such as +cpu
    }


_LIBRARIES = ("lensmount", "torchvision", "timm", "safetensors", "scikit-learn", "pillow")


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    """Tuples as lists, as JSON will read them back."""
    plain: dict[str, Any] = _listed(document)
    return plain


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_listed(item) for item in value]
    return value


@contextmanager
def on_threads(count: int | None) -> Iterator[None]:
    """Inside, torch computes on so many CPU threads; None leaves them as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
