"""Full fine-tuning of named modules, as a baseline for adapters. It writes a file of weights, never an adapter.

The run is that of `training.train` (images, split, augmentation, schedule, choice of the epoch). Only the trained
tensors differ: every tensor of the named modules instead of low-rank factors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import safetensors.torch
from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.adapter.file import digest_of
from lensmount_adapters.adapter.heads import load_head
from lensmount_adapters.adapter.manifest import HeadSpec, Manifest
from lensmount_adapters.atomic import write_atomic
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.delta.kinds import Additive, Delta
from lensmount_adapters.delta.targets import Selection
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.training.config import FILE_DTYPES, TrainingConfig, require_folder_of
from lensmount_adapters.training.loop import Listener, TrainingLoop, silent
from lensmount_adapters.training.objective import Classification
from lensmount_adapters.training.result import TrainingResult, manifest_of, on_threads, result_of, score_parts
from lensmount_adapters.training.trainable import TrainableAdapter, isolated_random_state
from lensmount_adapters.training.training_data import load_training_data


class TrainableModules(TrainableAdapter):
    """Trains every tensor of the chosen modules as `W0 + delta`, with a full-size delta that starts at zero."""

    def _read(self, factors: Mapping[str, Tensor] | None = None) -> tuple[Delta, ...]:
        targets, given = self.backbone.targets, self.factors if factors is None else factors
        return tuple(Additive(targets[name.removesuffix(".delta")], delta) for name, delta in given.items())


def fine_tune(
    config: TrainingConfig, modules: str, backbone: Backbone, on_progress: Listener | None = None
) -> TrainingResult:
    """Train the modules whose paths match the expression `modules`, and a head; write them to `config.out`.

    `config.method`, `rank`, `alpha`, `init_std` and `targets` are ignored. The file has the new values under the
    backbone's names, and `head.*`, in `config.file_dtype`. The figures are measured with the file, read back. Weight
    decay pulls the weights towards those of the backbone, not towards zero. Raises DatasetError, TrainingError.
    """
    selection = select_modules(backbone, modules)

    def build(config: TrainingConfig, backbone: Backbone, head: HeadSpec, classes: int) -> TrainableModules:
        return TrainableModules(backbone, selection, rank=1, alpha=1.0, head=head, classes=classes, seed=config.seed)

    with on_threads(config.threads), isolated_random_state(backbone.device):
        require_folder_of(config.out)
        data = load_training_data(replace(config, calibration="off"), backbone)  # its file is no adapter
        loop = TrainingLoop(config, backbone, Classification(config, data), [], build)
        interrupted = loop.run(on_progress or silent)
        raw = _dump(loop)
        manifest = manifest_of(loop, interrupted).model_copy(update={"method": "full"})
        manifest, scored = score_parts(loop, data, manifest, _mountable(loop, manifest, raw))
        write_atomic(config.out, raw)
        return result_of(loop, data, manifest, digest_of(raw), scored, interrupted)


def select_modules(backbone: Backbone, modules: str) -> Selection:
    """Every tensor of the modules whose paths match. Raises TrainingError if no path matches."""
    chosen = tuple(target for target in backbone.targets.values() if re.search(modules, target.module))
    if not chosen:
        raise TrainingError(
            f"found no module of {backbone.name} that matches {modules!r}, expected a path such as "
            f"{next(iter(backbone.targets.values())).module}. Fix: use an expression that matches more"
        )
    return Selection(additive=chosen)


def _dump(loop: TrainingLoop) -> bytes:
    """The new weights and the head in the file's number format."""
    dtype, bases = FILE_DTYPES[loop.config.file_dtype], loop.adapter.bases
    learned = {name.removesuffix(".delta"): tensor for name, tensor in loop.best.items()}
    tensors = {name: bases[name].float() + tensor if name in bases else tensor for name, tensor in learned.items()}
    data: bytes = safetensors.torch.save({name: t.to(dtype).cpu().contiguous() for name, t in tensors.items()})
    return data


def _mountable(loop: TrainingLoop, manifest: Manifest, data: bytes) -> Adapter:
    """The contents of the file as deltas that a swapper can mount. Admission would refuse them as an adapter file."""
    stored = safetensors.torch.load(data)
    deltas = tuple(
        Additive(delta.target, stored[delta.target.name].to(loop.backbone.device).float() - base.float())
        for delta in loop.adapter.deltas
        for base in [loop.adapter.bases[delta.target.name]]
    )
    heads = {name: tensor for name, tensor in stored.items() if name.startswith("head.")}
    head = load_head(manifest.head, loop.backbone.feature_dim, len(manifest.labels), heads).to(loop.backbone.device)
    return Adapter(digest_of(data), len(data), manifest, deltas, head)
