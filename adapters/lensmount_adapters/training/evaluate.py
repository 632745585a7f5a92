"""Evaluate an adapter file on a folder of images, with its weights merged as on a server."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from lensmount_adapters.adapter.adapter import Adapter, ComputesFeatures
from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.adapter.backbone_of import backbone_of
from lensmount_adapters.adapter.file import parse_adapter
from lensmount_adapters.adapter.manifest import Manifest, SegmentationHead
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.data.dataset import ImageFolder, Sample, digest_of_samples, read_folder, read_pixels
from lensmount_adapters.data.split import few_shot, split_folder, with_calibration
from lensmount_adapters.errors import BackboneError, DatasetError
from lensmount_adapters.explain.heat_maps import heat_maps
from lensmount_adapters.inputs.limits import ImageLimits
from lensmount_adapters.inputs.prepare import normalise, suffixes_of
from lensmount_adapters.metrics.calibration import calibration
from lensmount_adapters.metrics.scored import ScoredPart
from lensmount_adapters.report.context import ReportContext
from lensmount_adapters.report.point import positive_label
from lensmount_adapters.report.record import read_record
from lensmount_adapters.report.write import found_json, write_evaluation_report
from lensmount_adapters.training.answer import scored_part, served_logits
from lensmount_adapters.training.before import comparable, version_before
from lensmount_adapters.training.calibration_images import SHARE
from lensmount_adapters.training.training_data import TrainingData
from lensmount_adapters.trunks.int8 import Int8Trunks
from lensmount_adapters.trunks.network import Int8Network
from lensmount_adapters.trunks.ranges import recorded_ranges
from lensmount_adapters.trunks.record import FLOAT32, INT8, INT8_BRANCH, Figures, recorded
from lensmount_adapters.trust.assess import assess_wanted
from lensmount_adapters.trust.fit import Wanted, folds_of

log = logging.getLogger(__name__)

SCORED_ON = ("test", "validation")  # of which the first that has images shows what int8 costs
RANGED = 60  # images for the ranges of a branch in int8; 120 change nothing


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation(ScoredPart):
    """The result of `evaluate`.

    It has the scores of each image, the figures (`metrics_json`, the content of `metrics.json`) and the files written.
    """

    metrics_json: dict[str, Any]
    written: tuple[Path, ...]


class Wishes(TypedDict, total=False):
    """More for the report: `positive` is the label that counts as the positive result (default: the file's),
    `prevalence` in (0, 1) its frequency in use, `author` who evaluates, and `compare` an earlier adapter file. `wanted`
    are other thresholds than the file's: those of three quarters of the images, measured on the other quarter in turn.
    """

    positive: str | None
    prevalence: float | None
    author: str
    compare: Path | None
    wanted: Wanted | None


def evaluate(
    adapter: Path,
    data: Path,
    *,
    split: Literal["test", "validation", "train", "calibration", "all"] = "test",
    out: Path | None = None,
    backbone: Backbone | None = None,
    weights: str | Path | None = None,
    device: str = "cpu",
    on_progress: Callable[[int, int], None] | None = None,
    **wishes: Unpack[Wishes],
) -> Evaluation:
    """Evaluate an adapter file on the images of `data`, whose class folders are named after the adapter's labels.

    `split`: a part of the split that the training recorded, which is reproduced and checked against the recorded
    digest; or "all". `out`: a folder for `metrics.json`, `metrics.png` and `report.html`. `weights` None uses the
    weights named in the training record. `on_progress(done, total)` is called after every batch. `wishes` go into the
    report.
    Raises AdapterError (the file is refused), DatasetError (the data do not match), BackboneError.
    """
    raw = adapter.read_bytes()
    manifest = parse_adapter(raw).manifest
    require_classes(manifest)
    wanted, compare = wishes.get("wanted"), wishes.get("compare")
    require_label(wishes.get("positive") or (wanted.positive if wanted else None), manifest.labels)
    _require_positive(wishes, manifest)
    if compare is not None:
        comparable(compare, manifest)
    folder, samples = read_samples(manifest, data, split)
    if backbone is None:
        backbone = backbone_of(manifest, weights, device)
    admitted = admit(raw, backbone)
    logits = served_logits(admitted, backbone, folder, samples, on_progress)
    scored = scored_part(manifest, samples, logits)
    metrics_json = {
        "adapter": {"name": manifest.name, "digest": admitted.digest},
        "backbone": {"name": backbone.name, "fingerprint": backbone.fingerprint},
        "data": {"name": data.resolve().name, "split": split, "digest": digest_of_samples(samples)},
        "metrics": scored.metrics.to_json(),
        "calibration": calibration(scored.truth, scored.scores).to_json(),
    }
    if wanted is not None:
        metrics_json["wanted"] = _other_thresholds(scored, samples, manifest, wanted)
    before = None
    if compare is not None:
        before = version_before(compare, split, scored, manifest, folder, backbone)
    context = ReportContext(
        positive=wishes.get("positive"),
        prevalence=wishes.get("prevalence"),
        author=wishes.get("author", ""),
        before=before,
        heat_map=heat_maps(admitted, backbone, folder.read, folder.limits),
    )
    metrics_json |= found_json(manifest, {split: scored}, context)
    written: list[Path] = []
    if out is not None:
        written = write_evaluation_report(out, metrics_json, manifest, len(raw), {split: scored}, folder.read, context)
    fields = scored.paths, scored.truth, scored.scores, scored.metrics
    return Evaluation(*fields, metrics_json, tuple(written), assessed=scored.assessed)


def reproduce_split(manifest: Manifest, folder: ImageFolder, part: str) -> list[Sample]:
    """The samples of a part of the recorded split. Raises DatasetError if the data are not the recorded ones."""
    record = manifest.training.get("split")
    if not record:
        raise DatasetError(
            f"{manifest.name}: found no split in the training record, expected one. Fix: use --split all"
        )
    labels = [sample.label for sample in folder.samples]
    split = split_folder(folder, record["seed"], record["validation_fraction"], record["test_fraction"])
    if record["shots"] is not None:
        split = few_shot(split, labels, record["shots"], record["seed"])
    if "calibration" in record["parts"]:
        split = with_calibration(split, labels, [s.group for s in folder.samples], record["seed"], SHARE)
    if part not in record["parts"]:
        raise DatasetError(
            f"{manifest.name}: found no {part} part in the training record, expected one of "
            f"{', '.join(record['parts'])}. Fix: use --split test"
        )
    samples = [folder.samples[index] for index in split.parts()[part]]
    expected = record["parts"][part]
    if digest_of_samples(samples) != expected["digest"]:
        raise DatasetError(
            f"{folder.root}: the {part} part does not reproduce: found {len(samples)} images with another digest, "
            f"expected the {expected['images']} recorded images of {manifest.training['data']['name']}. "
            "Fix: use the folder that the adapter was trained on, or --split all"
        )
    if not samples:
        raise DatasetError(
            f"{manifest.name}: found an empty {part} part in the training record, expected images. Fix: use --split all"
        )
    return samples


def require_label(positive: str | None, labels: Sequence[str]) -> None:
    """Raise DatasetError for a positive label that is none of these."""
    if positive is not None and positive not in labels:
        raise DatasetError(
            f"found positive {positive[:80]!r}, expected one of {', '.join(labels[:20])}. Fix: --positive {labels[-1]}"
        )


def require_classes(manifest: Manifest) -> None:
    """Raise DatasetError for an adapter that answers with masks."""
    if isinstance(manifest.head, SegmentationHead):
        raise DatasetError(
            f"{manifest.name}: found an adapter that answers with masks, expected one that answers with classes. "
            'Fix: read the Dice and IoU of its test part in its record (training, "metrics"), or measure it again with '
            "score_masks in lensmount_adapters.training.train_masks"
        )


def _require_positive(wishes: Wishes, manifest: Manifest) -> None:
    """Raise DatasetError for the frequency of a label that nobody named."""
    prevalence, asked = wishes.get("prevalence"), wishes.get("positive")
    if prevalence is not None and positive_label(manifest, read_record(manifest), asked) is None:
        raise DatasetError(
            f"found prevalence {prevalence} without positive, expected both: the label whose frequency it is. "
            f"Fix: --positive {manifest.labels[-1]}, or leave --prevalence out"
        )


def _other_thresholds(
    scored: ScoredPart, samples: Sequence[Sample], manifest: Manifest, wanted: Wanted
) -> dict[str, Any]:
    folds = folds_of(scored.truth.tolist(), [sample.group for sample in samples])
    return assess_wanted(manifest.labels, scored.truth.numpy(), scored.scores.double().numpy(), folds, wanted)


def read_samples(manifest: Manifest, data: Path, split: str) -> tuple[ImageFolder, list[Sample]]:
    """The images of a part of the recorded split, or "all", with the adapter's labels. Raises DatasetError."""
    record, suffixes = manifest.training.get("split", {}), suffixes_of(manifest.preprocessing)
    depth, usual = record.get("class_depth"), ImageLimits()
    limits = ImageLimits(
        record.get("max_image_bytes", usual.max_image_bytes), record.get("max_pixels", usual.max_pixels)
    )
    if split == "all":
        folder = read_folder(data, classes=manifest.labels, suffixes=suffixes, class_depth=depth, limits=limits)
        return folder, list(folder.samples)
    folder = read_folder(data, record.get("group_regex"), manifest.labels, suffixes, depth, limits)
    return folder, reproduce_split(manifest, folder, split)


def with_precisions(
    manifest: Manifest, adapter: Adapter, backbone: Backbone, data: TrainingData, int8: Int8Trunks
) -> Manifest:
    """The manifest with the figures of both precisions on the run's test part, or its validation part without one.

    Unchanged if there is neither, or if this backbone has no int8 trunk; the log says so.
    """
    part = next((part for part in SCORED_ON if data.samples(part)), None)
    if part is None:
        return manifest
    try:
        samples, ranged = data.samples(part), data.samples("train")
        return scored_in_both(manifest, adapter, backbone, int8, part, data.folder, samples, ranged)
    except BackboneError as error:
        log.info("%s: not scored in int8: %s", manifest.name, error)
        return manifest


def scored_in_both(
    manifest: Manifest,
    adapter: Adapter,
    backbone: Backbone,
    int8: Int8Trunks,
    part: str,
    folder: ImageFolder,
    samples: Sequence[Sample],
    ranged: Sequence[Sample],
) -> Manifest:
    """The manifest with the figures on these samples of float32, of an int8 trunk and of a branch in int8 as well.

    The ranges of such a branch come from some of the images `ranged`. Raises BackboneError without an int8 trunk.
    """
    network = Int8Network(backbone, int8, [delta.target.name for delta in adapter.deltas])

    def figures(computed_by: ComputesFeatures, trunk: str = "") -> Figures:
        logits = served_logits(adapter, backbone, folder, samples, network=computed_by)
        scored = scored_part(manifest, samples, logits)
        error = calibration(scored.truth, scored.scores).error
        return Figures(part, len(samples), round(scored.metrics.balanced_accuracy, 6), round(error, 6), trunk)

    found = {FLOAT32: figures(backbone), INT8: figures(network, network.recipe)}
    chosen = ranged[:: max(1, -(-len(ranged) // RANGED))]
    rule = manifest.preprocessing
    images = (normalise(read_pixels(folder, [sample], rule), rule) for sample in chosen)
    whole, ranges = network.with_int8_branch(adapter, images)
    entry: dict[str, Any] = {}
    if ranges:
        found[INT8_BRANCH] = figures(whole, network.recipe)
        entry = recorded_ranges(ranges, network.recipe, len(chosen))
    return manifest.model_copy(update={"training": {**manifest.training, **recorded(found), **entry}})
