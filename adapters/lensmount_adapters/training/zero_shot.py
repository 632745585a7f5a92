"""A zero-shot adapter: a head of text prototypes on the unchanged backbone, written without any training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lensmount_adapters.adapter.file import write_adapter
from lensmount_adapters.adapter.manifest import Manifest, check_name
from lensmount_adapters.adapter.precision import RECORD as ROUNDED
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.dtypes import FLOAT32
from lensmount_adapters.text.prompts import Prompts
from lensmount_adapters.text.text_prototypes import text_head
from lensmount_adapters.training.config import FILE_DTYPES, TrainingConfig, require, require_folder_of
from lensmount_adapters.training.evaluate import evaluate
from lensmount_adapters.training.loop import TrainingLoop
from lensmount_adapters.training.objective import Classification
from lensmount_adapters.training.result import TrainingResult, manifest_of, on_threads, result_of
from lensmount_adapters.training.trainable import isolated_random_state
from lensmount_adapters.training.training_data import load_training_data


def write_zero_shot(
    out: Path,
    name: str,
    prompts: Prompts,
    backbone: Backbone,
    weights: str | None,
    *,
    license: str = "",  # noqa: A002  # the manifest's name for it
    description: str = "",
) -> str:
    """Write the adapter of these prompts to `out`, with its labels in their order; returns the file's digest.

    `weights` is the CLIP of both the backbone and the text encoder. No image is read. The scores are CLIP's own: the
    softmax of `logit_scale` times the cosines. Raises TrainingError, BackboneError.
    """
    require(check_name(name), f"name {name!r}", "lower case letters, digits, '.', '-', '_'")
    require_folder_of(out)
    head = text_head(weights, prompts, tuple(prompts.classes))
    manifest = Manifest(
        name=name,
        method="head",
        backbone=backbone.ref,
        preprocessing=backbone.preprocessing,
        labels=tuple(prompts.classes),
        head=head.spec,
        training={
            "weights": weights,
            ROUNDED: dict(backbone.rounded_fingerprints),
            "prompts": prompts.model_dump(mode="json"),
        },
        license=license,
        description=description,
    )
    return write_adapter(out, manifest, head.tensors(), FILE_DTYPES[FLOAT32])


def zero_shot(config: TrainingConfig, backbone: Backbone) -> TrainingResult:
    """Write a zero-shot adapter and measure it on the validation and test parts that training would have.

    Of the config, only the prompts, the images and their split matter. No label is used, not even for the temperature.
    Raises DatasetError, TrainingError, BackboneError.
    """
    untrained = replace(
        config, method="head", shots=None, epochs=1, precision=FLOAT32, cache_trunk="off", calibration="off"
    )
    dtype = FILE_DTYPES[config.file_dtype]
    with on_threads(config.threads), isolated_random_state(backbone.device):
        data = load_training_data(untrained, backbone)
        loop = TrainingLoop(untrained, backbone, Classification(untrained, data), [])
        manifest, tensors = manifest_of(loop, False), loop.adapter.tensors()
        write_adapter(config.out, manifest, tensors, dtype)
        scored = {
            part: evaluate(config.out, config.data, split=part, backbone=backbone)
            for part in ("validation", "test")
            if data.samples(part)
        }
        record = manifest.training | {
            "trainable_parameters": 0,
            "metrics": {part: evaluation.metrics_json["metrics"] for part, evaluation in scored.items()},
        }
        manifest = manifest.model_copy(update={"training": record})
        digest = write_adapter(config.out, manifest, tensors, dtype)
        return result_of(loop, data, manifest, digest, scored, interrupted=False)
