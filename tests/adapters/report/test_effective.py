"""Settings that were left open are shown with what they meant in the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.report.effective import effective_settings, effective_split
from lensmount_adapters.training.config import TrainingConfig

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawManifest

CONFIG = TrainingConfig(data=Path("cells"), name="cells", out=Path("cells.safetensors"), rank=6)


def run_of(draw_manifest: DrawManifest, config: TrainingConfig = CONFIG) -> Manifest:
    manifest = draw_manifest(["a", "b"])
    training = {
        **manifest.training,
        "hyper_parameters": config.hyper_parameters(),
        "precision": "bfloat16",
        "trunk": {"cut": "blocks.2", "views": 4},
        "calibration": {"source": "cross-fitted", "images": 90},
    }
    return manifest.model_copy(update={"training": training})


def test_no_setting_of_a_run_is_left_open(draw_manifest: DrawManifest) -> None:
    shown = effective_settings(run_of(draw_manifest))

    assert not {"not set", "None", ""} & set(shown.values())
    assert shown["alpha"] == "12"
    assert shown["epochs"] == "5"
    assert shown["targets"] == "the backbone's preset: 1 layers"
    assert shown["size"] == "32 x 32"
    assert shown["init_std"] == "Kaiming uniform"
    assert shown["patience"] == "never stop early"
    assert shown["precision"] == "bfloat16 (auto)"
    assert shown["cache_trunk"] == "on (auto)"
    assert shown["calibration"] == "cross-fitted (auto)"
    assert not {"labels", "where", "loss", "prompts"} & set(shown)  # they mean nothing here


def test_what_was_set_is_shown_as_it_was_set(draw_manifest: DrawManifest) -> None:
    config = replace(CONFIG, alpha=3.0, epochs=7, size=64, precision="float32", cache_trunk="off", targets="layer4")

    shown = effective_settings(run_of(draw_manifest, config))

    assert [shown[name] for name in ("alpha", "epochs", "size", "precision", "cache_trunk", "targets")] == [
        "3.0", "7", "64", "float32", "off", "layer4",
    ]  # fmt: skip


def test_the_split_says_what_a_missing_value_meant(draw_manifest: DrawManifest) -> None:
    manifest = draw_manifest(["a", "b"])
    split = {**manifest.training["split"], "group_regex": None, "odd": None}
    manifest = manifest.model_copy(update={"training": {**manifest.training, "split": split}})

    shown = effective_split(manifest)

    assert (shown["group_regex"], shown["shots"], shown["odd"]) == ("every image is its own group", "all", "none")
    assert "parts" not in shown
