"""What the file of a run promises: the logits that the promises rest on, and the manifest and tensors with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lensmount_adapters.adapter.adapter import Adapter
from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.training.answer import served_logits
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.cross_fitting import cross_fitted_logits
from lensmount_adapters.training.loop import Listener, TrainingLoop
from lensmount_adapters.training.training_data import TrainingData
from lensmount_adapters.trust.fit import Wanted, fit_trust, folds_of

RECORD = "calibration"  # of the training record


@dataclass(frozen=True, slots=True, eq=False)
class Promised:
    """The manifest with its trust block and temperature, and the tensors, in which a vector is folded."""

    manifest: Manifest
    tensors: dict[str, Tensor]


def promise(
    loop: TrainingLoop,
    data: TrainingData,
    adapter: Adapter,
    tensors: Mapping[str, Tensor],
    listener: Listener,
) -> Promised:
    """Measure what `adapter`, read back from the run's `tensors`, can promise. Raises KeyboardInterrupt (Ctrl-C).

    Without a plan for a calibration the manifest says why it promises nothing.
    """
    plan, manifest = data.calibration, adapter.manifest
    if plan.source is None:
        return Promised(_recorded(manifest, {"source": None, "why": plan.why_not}), dict(tensors))
    samples = data.samples("calibration" if plan.source == "part" else "train")
    truth = torch.tensor([sample.label for sample in samples]).numpy()
    folds = folds_of(truth.tolist(), [sample.group for sample in samples], seed=loop.config.seed)
    if plan.source == "part":
        logits = served_logits(adapter, loop.backbone, data.folder, samples, network=loop.network)
    else:
        logits = cross_fitted_logits(loop, data, manifest, folds, listener)
    scaling, trust = fit_trust(
        truth, logits.double().numpy(), folds, data.labels, manifest.head, plan.source, wanted_of(loop.config)
    )
    head = manifest.head.model_copy(update={"temperature": scaling.temperature})
    facts = {"source": plan.source, "images": len(samples), "epochs": loop.best_epoch}
    manifest = _recorded(manifest.model_copy(update={"head": head, "trust": trust}), facts)
    return Promised(manifest, scaling.folded(tensors, head))


def wanted_of(config: TrainingConfig) -> Wanted:
    """What the options ask for."""
    point: dict[str, Any] = {}
    if config.sensitivity is not None:
        point = {"kind": "sensitivity", "value": config.sensitivity}
    elif config.specificity is not None:
        point = {"kind": "specificity", "value": config.specificity}
    return Wanted(config.coverage, config.accept_accuracy, config.positive if point else None, **point)


def wanted_or_none(options: Mapping[str, Any]) -> Wanted | None:
    """What the options of an evaluation ask for; None if for nothing. Raises TrainingError as training does."""
    given = {name: value for name, value in options.items() if value is not None}
    return wanted_of(TrainingConfig(Path(), "x", Path(), **given)) if given else None


def _recorded(manifest: Manifest, facts: dict[str, Any]) -> Manifest:
    return manifest.model_copy(update={"training": {**manifest.training, RECORD: facts}})
