"""Ask an earlier version of an adapter about the same images, for a comparison in a report."""

from __future__ import annotations

from pathlib import Path

import torch

from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.adapter.backbone_of import backbone_of
from lensmount_adapters.adapter.file import parse_adapter
from lensmount_adapters.adapter.heads import probabilities
from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.data.dataset import ImageFolder, digest_of_samples
from lensmount_adapters.errors import DatasetError
from lensmount_adapters.metrics.classification import measure
from lensmount_adapters.metrics.paired import pair
from lensmount_adapters.metrics.scored import ScoredPart
from lensmount_adapters.report.context import Before
from lensmount_adapters.training.answer import served_logits


def version_before(
    old: Path, part: str, scored: ScoredPart, manifest: Manifest, folder: ImageFolder, backbone: Backbone
) -> Before:
    """Compare the adapter file `old` with the one of `manifest`, whose answers on a part of `folder` are `scored`.

    `backbone` is that of the new version; the old one's is loaded if it is another. Raises AdapterError (the file is
    refused), DatasetError (other labels or inputs), BackboneError.
    """
    earlier = comparable(old, manifest)
    if earlier.backbone.fingerprint != backbone.fingerprint:
        backbone = backbone_of(earlier, device=backbone.device)
    adapter = admit(old.read_bytes(), backbone)
    by_path = {sample.path: sample for sample in folder.samples}
    samples = [by_path[path] for path in scored.paths]
    scores = probabilities(earlier.head, served_logits(adapter, backbone, folder, samples))
    scores = scores[:, [earlier.labels.index(label) for label in manifest.labels]]
    truth = torch.tensor([sample.label for sample in samples])
    before = ScoredPart(scored.paths, truth, scores, measure(truth, scores, manifest.labels))
    seen = _recorded_digest(earlier, part) != digest_of_samples(samples)
    note = (
        f"{earlier.name} ({old.name}) was trained with another split or on other images. It may have been trained on "
        "some of these images, so that its figures may be too high."
    )
    return Before(earlier.name, adapter.digest, pair(before, scored, manifest.labels), note if seen else "")


def comparable(old: Path, manifest: Manifest) -> Manifest:
    """The manifest of the adapter file `old`. Raises DatasetError unless it has the labels and the kind of inputs."""
    earlier = parse_adapter(old.read_bytes()).manifest
    if set(earlier.labels) != set(manifest.labels) or earlier.head.kind == "segmentation":
        raise DatasetError(
            f"{old.name}: found the labels {', '.join(earlier.labels[:10])}, expected those of {manifest.name}, "
            f"{', '.join(manifest.labels[:10])}. Fix: compare with a version that has the same labels, or leave "
            "--compare out"
        )
    if len(earlier.preprocessing.input_shape) != len(manifest.preprocessing.input_shape):
        raise DatasetError(
            f"{old.name}: found an input of {earlier.preprocessing}, expected one like that of {manifest.name}, "
            f"{manifest.preprocessing}. Fix: compare images with images and volumes with volumes, or leave --compare "
            "out"
        )
    return earlier


def _recorded_digest(earlier: Manifest, part: str) -> object:
    """The digest of the images of that part in the record, None if it is not there."""
    found: object = earlier.training
    for key in ("split", "parts", part, "digest"):
        found = found.get(key) if isinstance(found, dict) else None
    return found
