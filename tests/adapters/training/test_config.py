"""The configuration of a run is validated when it is created."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lensmount_adapters.errors import TrainingError
from lensmount_adapters.training.config import TrainingConfig


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Big Name"}, "found name 'Big Name'"),
        ({"rank": 0}, "rank 0"),
        ({"epochs": 0}, "0 epochs"),
        ({"learning_rate": 0.0}, "learning rate"),
        ({"precision": "int4"}, "'int4'"),
        ({"file_dtype": "int8"}, "'int8'"),
        ({"method": "magic"}, "'magic'"),
        ({"augment": "satellite"}, "'satellite'"),
        ({"augmentation": {"wings": 2}}, "wings"),
        ({"resize": "stretch"}, "'stretch'"),
        ({"class_weights": "some"}, "'some'"),
        ({"learning_rate": 1e-300}, r"learning rate 1e-300, expected 0 or a size between 1\.18e-38 and 3\.4e\+38"),
        ({"weight_decay": 1e-310}, "weight decay"),
        ({"alpha": 1e-40}, "alpha 1e-40"),
        ({"alpha": 2e-38, "rank": 8}, r"alpha / rank of 2\.5e-39"),
        ({"window": (0, 1e300)}, "window"),
        ({"window": (-3e38, 3e38)}, "a width of a size between"),
        ({"window": (1, 1 + 1e-12)}, "a width of a size between"),
    ],
)
def test_a_config_that_cannot_work_is_refused_when_it_is_created(
    config: TrainingConfig, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        replace(config, **change)


def test_auto_needs_a_validation_part(config: TrainingConfig) -> None:
    with pytest.raises(TrainingError, match="auto without a validation part"):
        replace(config, auto=True, validation_fraction=0)


def test_a_prevalence_belongs_to_a_positive_label(config: TrainingConfig) -> None:
    with pytest.raises(TrainingError, match=r"found prevalence 0\.02 without positive.*Fix: --positive LABEL"):
        replace(config, prevalence=0.02)
    assert replace(config, prevalence=0.02, positive="disc").prevalence == 0.02


def test_what_people_say_about_an_adapter_does_not_make_it_another_run(config: TrainingConfig) -> None:
    said = replace(config, author="Ada", intended_use="slides", limits="no smears", positive="disc", prevalence=0.1)

    assert said.hyper_parameters() == replace(config, positive="disc").hyper_parameters()
