"""Preprocessing rules: their kind is recognised, and rules that cannot be computed are refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from lensmount_adapters.inputs.rules import (
    InputRule,
    IntensityPercentiles,
    IntensityRange,
    Preprocessing,
    VolumePreprocessing,
)

RULES: TypeAdapter[Any] = TypeAdapter(InputRule)
IMAGE = {"size": [32, 48], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
VOLUME = {"kind": "volume", "depth": 8, **IMAGE}


def test_a_rule_without_a_kind_is_for_images() -> None:
    rule = RULES.validate_python(IMAGE)

    assert isinstance(rule, Preprocessing)
    assert rule.input_shape == (3, 32, 48)
    assert str(rule) == "32 x 48, squash"


def test_a_rule_of_volumes_is_recognised_by_its_kind() -> None:
    rule = RULES.validate_python(VOLUME)

    assert isinstance(rule, VolumePreprocessing)
    assert rule.input_shape == (3, 8, 32, 48)
    assert RULES.validate_python(rule.model_dump(mode="json")) == rule


@pytest.mark.parametrize("orientations", [4, 8])
@pytest.mark.parametrize("fields", [IMAGE, VOLUME], ids=["image", "volume"])
def test_quarter_turns_need_a_square_size(fields: dict[str, Any], orientations: int) -> None:
    with pytest.raises(ValidationError, match="expected a square size"):
        RULES.validate_python({**fields, "orientations": orientations})
    assert RULES.validate_python({**fields, "orientations": orientations, "size": [32, 32]})
    assert RULES.validate_python({**fields, "orientations": 2})
    with pytest.raises(ValidationError):
        RULES.validate_python({**fields, "orientations": True})


def test_a_volume_has_at_most_2_to_the_23_voxels() -> None:
    assert RULES.validate_python({**VOLUME, "depth": 32, "size": [512, 512]})
    with pytest.raises(ValidationError, match="expected at most 8388608 voxels"):
        RULES.validate_python({**VOLUME, "depth": 33, "size": [512, 512]})


@pytest.mark.parametrize(("lower", "upper"), [(10, 10), (20, 10)])
def test_a_window_s_lower_end_is_below_its_upper_end(lower: float, upper: float) -> None:
    for window in (IntensityRange, IntensityPercentiles):
        with pytest.raises(ValidationError, match="expected lower below upper"):
            window(lower=lower, upper=upper)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "video"}, {"size": [8, 32]}, {"size": [32]}, {"std": [0.5, 0.5, 0]}, {"mean": [0, 0, float("nan")]},
        {"x": 1},
    ],
    ids=str,
)  # fmt: skip
def test_fields_out_of_range_and_unknown_fields_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RULES.validate_python({**IMAGE, **change})
