"""Checkpoints that cannot be resumed from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.training.checkpoint import checkpoint_path
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.train_adapter import Listener, train

CtrlC = Callable[[int], Listener]


def test_resuming_with_another_setting_is_refused_and_the_setting_is_named(
    config: TrainingConfig, backbone: Backbone, ctrl_c: CtrlC
) -> None:
    train(config, ctrl_c(2), backbone)

    with pytest.raises(TrainingError, match=r"learning_rate = 0\.01, expected 0\.02"):
        train(replace(config, resume=True, learning_rate=0.02), backbone=backbone)


def test_resuming_without_a_checkpoint_or_from_a_damaged_one_is_refused(
    config: TrainingConfig, backbone: Backbone
) -> None:
    with pytest.raises(TrainingError, match="no checkpoint"):
        train(replace(config, resume=True), backbone=backbone)
    checkpoint_path(config.out).write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="damaged"):
        train(replace(config, resume=True), backbone=backbone)
