"""Train for segmentation: an adapter on a frozen network, or the network itself, which then serves as a backbone."""

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
from lensmount_adapters.backbone.load import load_backbone, weights_from
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.inputs.images import preprocess
from lensmount_adapters.inputs.rules import Preprocessing
from lensmount_adapters.machine import choose_device
from lensmount_adapters.metrics.masks import MaskMetrics, measure_masks
from lensmount_adapters.swap.exact import ExactSwapper
from lensmount_adapters.training.checkpoint import checkpoint_path
from lensmount_adapters.training.config import FILE_DTYPES, TrainingConfig, require, require_folder_of
from lensmount_adapters.training.fine_tune import TrainableModules, select_modules
from lensmount_adapters.training.loop import Listener, TrainingLoop, silent
from lensmount_adapters.training.result import manifest_of, on_threads
from lensmount_adapters.training.segmentation import MaskTask, Segmentation, read_mask_task
from lensmount_adapters.training.trainable import TrainableAdapter, isolated_random_state

EVERYTHING = ""  # an expression that matches the path of every module


@dataclass(frozen=True, slots=True)
class SegmentationResult:
    """The written adapter file and its figures.

    `parts` has the figures of "validation" and "test", measured with the contents of the file, read back. `task` is the
    data of the run: anything that is compared with the adapter is measured on its test part.
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
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user about the data, such as blank masks and files that were not used."""
        return self.task.folder.notes

    @property
    def record(self) -> dict[str, Any]:
        return self.manifest.training


def train_segmentation(
    config: TrainingConfig, on_progress: Listener | None = None, backbone: Backbone | None = None
) -> SegmentationResult:
    """Train an adapter that predicts masks and write it to `config.out`. Everything else is as in `training.train`.

    Raises DatasetError, TrainingError, BackboneError.
    """
    with on_threads(config.threads), isolated_random_state(backbone.device if backbone else config.device):
        backbone = _checked_backbone(config, backbone)
        task = read_mask_task(config, backbone)
        loop = TrainingLoop(config, backbone, Segmentation(config, task), [])
        interrupted = loop.run(on_progress or silent)
        return _write(
            loop.config, manifest_of(loop, interrupted), loop.adapter.stored(loop.best), backbone, task, interrupted
        )


def train_base(
    config: TrainingConfig, weights: Path, on_progress: Listener | None = None, backbone: Backbone | None = None
) -> SegmentationResult:
    """Train every tensor of a network, and a head. The network becomes a backbone and the head an adapter on it.

    The network is written to `weights`, a float32 safetensors file for `load_backbone`. The adapter is written to
    `config.out` and has the head only. `config.method`, `rank`, `alpha`, `init_std` and `targets` are ignored.
    Raises the same errors as `train_segmentation`.
    """

    def build(config: TrainingConfig, backbone: Backbone, head: HeadSpec, classes: int) -> TrainableAdapter:
        chosen = select_modules(backbone, EVERYTHING)
        return TrainableModules(backbone, chosen, rank=1, alpha=1.0, head=head, classes=classes, seed=config.seed)

    with on_threads(config.threads), isolated_random_state(backbone.device if backbone else config.device):
        backbone = _checked_backbone(config, backbone)
        task = read_mask_task(config, backbone)
        loop = TrainingLoop(config, backbone, Segmentation(config, task), [], build)
        interrupted = loop.run(on_progress or silent)
        learned = {name.removesuffix(".delta"): delta for name, delta in loop.best.items()}
        tensors = {
            name: (base.float() + learned[name] if name in learned else base.float()).cpu().contiguous()
            for name, base in backbone.base(backbone.tensors).items()
        }
        write_atomic(weights, safetensors.torch.save(tensors))
        base = load_backbone(config.backbone, weights, backbone.device)
        manifest = manifest_of(loop, interrupted).model_copy(update={"method": "head", "backbone": base.ref})
        head = {name: tensor for name, tensor in loop.best.items() if name.startswith("head.")}
        return _write(config, manifest, head, base, task, interrupted)


def score_masks(adapter: Adapter, backbone: Backbone, task: MaskTask, part: str) -> MaskMetrics:
    """Measure the adapter on a part of the split as on a server: merged weights, masks in the size of each image."""
    head, rule = adapter.manifest.head, adapter.manifest.preprocessing
    assert isinstance(rule, Preprocessing)
    assert isinstance(head, SegmentationHead)  # admission on a backbone of feature maps requires one
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    swapper = ExactSwapper(backbone)
    swapper.mount(adapter)
    try:
        for sample in task.samples(part):
            image = task.folder.image(sample)
            scores = adapter.image_scores(backbone, preprocess(image, rule)[None])[0].cpu()
            predicted = masks_of(scores, image.size, rule, head.threshold)
            truth = task.folder.mask(sample, image.size)
            pairs.append((truth.labels, truth.counted(predicted)))
    finally:
        swapper.unmount()
    return measure_masks(pairs, task.folder.labels)


def _checked_backbone(config: TrainingConfig, backbone: Backbone | None) -> Backbone:
    require(config.masks, "a head for classes", "head segmentation")
    require_folder_of(config.out)
    if backbone is None:
        backbone = load_backbone(config.backbone, weights_from(config.weights), choose_device(config.device))
    require(backbone.name == config.backbone, f"the backbone {backbone.name}", f"{config.backbone} as in the config")
    return backbone


def _write(
    config: TrainingConfig,
    manifest: Manifest,
    tensors: Mapping[str, torch.Tensor],
    backbone: Backbone,
    task: MaskTask,
    interrupted: bool,
) -> SegmentationResult:
    """Write the best epoch. Its figures are measured with the file's own bytes, admitted like any upload."""
    dtype = FILE_DTYPES[config.file_dtype]
    adapter = admit(dump_adapter(manifest, tensors, dtype), backbone)
    parts = {part: score_masks(adapter, backbone, task, part) for part in ("validation", "test") if task.samples(part)}
    figures = {part: metrics.to_json() for part, metrics in parts.items()}
    manifest = manifest.model_copy(update={"training": {**manifest.training, "metrics": figures}})
    digest = write_adapter(config.out, manifest, tensors, dtype)
    if not interrupted:
        checkpoint_path(config.out).unlink(missing_ok=True)
    return SegmentationResult(config.out, digest, config.out.stat().st_size, manifest, parts, interrupted, task)
