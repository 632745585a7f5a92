"""Each training image is scored by a network that never saw it, trained as the run was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.adapter.file import dump_adapter
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.training.answer import served_logits
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.cross_fitting import cross_fitted_logits
from lensmount_adapters.training.loop import Progress, TrainingLoop, silent
from lensmount_adapters.training.objective import Classification
from lensmount_adapters.training.result import manifest_of
from lensmount_adapters.training.training_data import TrainingData, load_training_data


def trained(config: TrainingConfig, data: TrainingData, backbone: Backbone) -> TrainingLoop:
    loop = TrainingLoop(config, backbone, Classification(config, data), [])
    assert not loop.run(silent)
    return loop


@pytest.mark.parametrize("cache", ["on", "off"])
def test_logits_are_those_of_runs_on_the_other_images_and_leave_no_file(
    cache: str, config: TrainingConfig, backbone: Backbone
) -> None:
    config = replace(config, epochs=2, augment="none", cache_trunk=cache, views=1)  # type: ignore[arg-type]
    config = replace(config, class_weights="none", validation_fraction=0)  # so that the last epoch is the best
    data = load_training_data(config, backbone)
    loop = trained(config, data, backbone)
    folds = np.arange(len(data.train)) % 2
    heard: list[Progress] = []

    logits = cross_fitted_logits(loop, data, manifest_of(loop, False), folds, heard.append)

    for fold in (0, 1):
        own, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        alone = replace(
            data,
            train=replace(data.train, pixels=data.train.pixels[own]),
            train_labels=data.train_labels[own],
            validation=replace(data.validation, pixels=data.validation.pixels[:0]),
            validation_labels=data.validation_labels[:0],
        )
        other = trained(replace(config, epochs=loop.epochs), alone, backbone)
        file = dump_adapter(manifest_of(other, False), other.adapter.stored(other.best))
        expected = served_logits(
            admit(file, backbone), backbone, data.folder, [data.samples("train")[index] for index in held]
        )
        assert torch.allclose(logits[held], expected, atol=1e-5)
    assert {progress.phase for progress in heard} <= {"calibrating"}
    assert heard[-1].epoch == heard[-1].epochs == 2 * loop.best_epoch
    assert all(progress.done is None for progress in heard)
    assert not list(config.out.parent.iterdir()) or [p.name for p in config.out.parent.iterdir()] == [
        f"{config.out.name}.checkpoint"
    ]


def test_ctrl_c_passes_through_and_leaves_no_file(config: TrainingConfig, backbone: Backbone) -> None:
    config = replace(config, epochs=1)
    data = load_training_data(config, backbone)
    loop = trained(config, data, backbone)

    def stop(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cross_fitted_logits(loop, data, manifest_of(loop, False), np.arange(len(data.train)) % 2, stop)
    assert [path.name for path in config.out.parent.iterdir()] == [f"{config.out.name}.checkpoint"]
