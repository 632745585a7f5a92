"""Train what answers with masks: an adapter on a frozen network, or the network itself, which becomes a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.adapter.file import dump_adapter, write_adapter
from lensmount_adapters.adapter.manifest import HeadSpec, Manifest, SegmentationHead
from lensmount_adapters.adapter.masks import masks_of
from lensmount_adapters.atomic import write_atomic
from lensmount_adapters.backbone.load import choose_device, load_backbone, weights_from
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.inputs.images import preprocess
from lensmount_adapters.inputs.rules import Preprocessing
from lensmount_adapters.metrics.masks import MaskMetrics, measure_masks
from lensmount_adapters.swap.exact import ExactSwapper
from lensmount_adapters.training.checkpoint import checkpoint_path
from lensmount_adapters.training.config import FILE_DTYPES, TrainingConfig, require
from lensmount_adapters.training.fine_tune import TrainableModules, select_modules
from lensmount_adapters.training.loop import Listener, TrainingLoop, silent
from lensmount_adapters.training.result import manifest_of, on_threads
from lensmount_adapters.training.segmentation import MaskTask, Segmentation, read_mask_task
from lensmount_adapters.training.trainable import TrainableAdapter, own_random_state

EVERYTHING = ""  # the expression that every module's path matches


@dataclass(frozen=True, slots=True)
class SegmentationResult:
    """The written adapter file; `parts` holds the figures of "validation" and "test" by its own contents, read back.

    `task` is what was read: its test part is what anything else is compared on.
    """

    path: Path
    digest: str
    size_bytes: int
    manifest: Manifest
    parts: Mapping[str, MaskMetrics]
    interrupted: bool
    task: MaskTask

    @property
    def test(self) -> MaskMetrics | None:
        return self.parts.get("test")

    @property
    def record(self) -> dict[str, Any]:
        return self.manifest.training


def train_segmentation(
    config: TrainingConfig, on_progress: Listener | None = None, backbone: Backbone | None = None
) -> SegmentationResult:
    """Train an adapter that answers with masks and write it to `config.out`; as `training.train` otherwise.

    Raises DatasetError, TrainingError, BackboneError.
    """
    with on_threads(config.threads), own_random_state():
        backbone = _check(config, backbone)
        task = read_mask_task(config, backbone)
        run = TrainingLoop(config, backbone, Segmentation(config, task), [])
        interrupted = run.go(on_progress or silent)
        return _write(run.config, manifest_of(run, interrupted), run.best, backbone, task, interrupted)


def train_base(
    config: TrainingConfig, weights: Path, on_progress: Listener | None = None, backbone: Backbone | None = None
) -> SegmentationResult:
    """Train every tensor of a network, and a head; its weights become a backbone's, the head an adapter on it.

    `weights` is the safetensors file for `load_backbone`, float32; the adapter is written to `config.out` and holds the
    head alone. `config.method`, `rank`, `alpha`, `init_std` and `targets` say nothing here. Raises as
    `train_segmentation`.
    """

    def build(config: TrainingConfig, backbone: Backbone, head: HeadSpec, classes: int) -> TrainableAdapter:
        chosen = select_modules(backbone, EVERYTHING)
        return TrainableModules(backbone, chosen, rank=1, alpha=1.0, head=head, classes=classes, seed=config.seed)

    with on_threads(config.threads), own_random_state():
        backbone = _check(config, backbone)
        task = read_mask_task(config, backbone)
        run = TrainingLoop(config, backbone, Segmentation(config, task), [], build)
        interrupted = run.go(on_progress or silent)
        learned = {name.removesuffix(".delta"): delta for name, delta in run.best.items()}
        tensors = {
            name: (base.float() + learned[name] if name in learned else base.float()).cpu().contiguous()
            for name, base in backbone.base(backbone.tensors).items()
        }
        write_atomic(weights, safetensors.torch.save(tensors))
        base = load_backbone(config.backbone, weights, backbone.device)
        manifest = manifest_of(run, interrupted).model_copy(update={"method": "head", "backbone": base.ref})
        head = {name: tensor for name, tensor in run.best.items() if name.startswith("head.")}
        return _write(config, manifest, head, base, task, interrupted)


def judge_masks(adapter: Adapter, backbone: Backbone, task: MaskTask, part: str) -> MaskMetrics:
    """The pictures of a part as a server would answer them: merged, and masks of each picture's own size."""
    head, rule = adapter.manifest.head, adapter.manifest.preprocessing
    assert isinstance(rule, Preprocessing)
    assert isinstance(head, SegmentationHead)  # or it would not have been admitted on a backbone that gives maps
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    swapper = ExactSwapper(backbone)
    swapper.mount(adapter)
    try:
        for sample in task.samples(part):
            picture = task.folder.image(sample)
            scores = adapter.image_scores(backbone, preprocess(picture, rule)[None])[0].cpu()
            answer = masks_of(scores, picture.size, rule, head.threshold)
            pairs.append((task.folder.masks(sample, picture.size), answer))
    finally:
        swapper.unmount()
    return measure_masks(pairs, task.folder.labels)


def _check(config: TrainingConfig, backbone: Backbone | None) -> Backbone:
    require(config.masks, "another head", "head segmentation")
    require(config.out.parent.is_dir(), f"no folder {config.out.parent} for the result", "one that exists")
    if backbone is None:
        backbone = load_backbone(config.backbone, weights_from(config.weights), choose_device(config.device))
    require(backbone.name == config.backbone, f"the backbone {backbone.name}", f"{config.backbone} as configured")
    return backbone


def _write(
    config: TrainingConfig,
    manifest: Manifest,
    tensors: Mapping[str, torch.Tensor],
    backbone: Backbone,
    task: MaskTask,
    interrupted: bool,
) -> SegmentationResult:
    """Write the best epoch; its figures are those of the file's own bytes, admitted like any upload."""
    dtype = FILE_DTYPES[config.file_dtype]
    adapter = admit(dump_adapter(manifest, tensors, dtype), backbone)
    found = {part: judge_masks(adapter, backbone, task, part) for part in ("validation", "test") if task.samples(part)}
    figures = {part: metrics.to_json() for part, metrics in found.items()}
    manifest = manifest.model_copy(update={"training": {**manifest.training, "metrics": figures}})
    digest = write_adapter(config.out, manifest, tensors, dtype)
    if not interrupted:
        checkpoint_path(config.out).unlink(missing_ok=True)
    return SegmentationResult(config.out, digest, config.out.stat().st_size, manifest, found, interrupted, task)
