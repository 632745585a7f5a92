"""What an int8 trunk costs an adapter, measured on held-out images and recorded in its file."""

from __future__ import annotations

import logging

from lensmount_adapters.adapter.adapter import Adapter, ComputesFeatures
from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.data.dataset import ImageFolder, Sample
from lensmount_adapters.errors import BackboneError
from lensmount_adapters.metrics.calibration import calibration
from lensmount_adapters.training.answer import scored_part, served_logits
from lensmount_adapters.training.loop import TrainingLoop
from lensmount_adapters.training.training_data import TrainingData
from lensmount_adapters.trunks.int8 import Int8Trunks
from lensmount_adapters.trunks.judgement import FLOAT32, INT8, Figures, recorded
from lensmount_adapters.trunks.network import Int8Network

log = logging.getLogger(__name__)

PARTS = ("test", "validation")  # of which the first that has images is judged on


def with_judgement(
    manifest: Manifest, adapter: Adapter, loop: TrainingLoop, data: TrainingData, int8: Int8Trunks
) -> Manifest:
    """The manifest with the figures of both precisions on the run's test part, or its validation part without one.

    Unchanged if there is neither, or if this backbone has no int8 trunk; the log says so.
    """
    part = next((part for part in PARTS if data.samples(part)), None)
    if part is None:
        return manifest
    try:
        return judged(manifest, adapter, loop.backbone, int8, part, data.folder, data.samples(part))
    except BackboneError as error:
        log.info("%s: not judged in int8: %s", manifest.name, error)
        return manifest


def judged(
    manifest: Manifest,
    adapter: Adapter,
    backbone: Backbone,
    int8: Int8Trunks,
    part: str,
    folder: ImageFolder,
    samples: list[Sample],
) -> Manifest:
    """The manifest with the figures of float32 and int8 on these samples.

    Raises BackboneError without an int8 trunk.
    """
    network = Int8Network(backbone, int8, [delta.target.name for delta in adapter.deltas])

    def figures(computed_by: ComputesFeatures, trunk: str = "") -> Figures:
        logits = served_logits(adapter, backbone, folder, samples, network=computed_by)
        scored = scored_part(manifest, samples, logits)
        error = calibration(scored.truth, scored.scores).error
        return Figures(part, len(samples), round(scored.metrics.balanced_accuracy, 6), round(error, 6), trunk)

    found = recorded({FLOAT32: figures(backbone), INT8: figures(network, network.recipe)})
    return manifest.model_copy(update={"training": {**manifest.training, **found}})
