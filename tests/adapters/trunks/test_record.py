"""int8 is used for an adapter where somebody asked for it, or where its record says that it costs nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.trunks.int8 import Int8Trunks
from lensmount_adapters.trunks.record import FLOAT32, INT8, RECORD, Figures, Int8Use, costs_nothing, recorded

FLOATING = Figures("test", 200, 0.95, 0.03)
TRUNK = "sha256:1"


@pytest.fixture
def manifest(draw_manifest: Any) -> Any:
    """`manifest(figures)`: a manifest with these figures of int8 and of float32."""

    def make(int8: Figures | None, floating: Figures = FLOATING) -> Manifest:
        figures = {FLOAT32: floating} | ({} if int8 is None else {INT8: int8})
        drawn: Manifest = draw_manifest(labels=("no", "yes"))
        return drawn.model_copy(update={"training": {**drawn.training, **recorded(figures)}})

    return make


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        ({}, True),
        ({"balanced_accuracy": 0.9471}, True),
        ({"balanced_accuracy": 0.9469}, False),
        ({"balanced_accuracy": 0.99, "calibration_error": 0.0399}, True),
        ({"calibration_error": 0.0401}, False),
        ({"balanced_accuracy": float("nan")}, False),
        ({"trunk": "sha256:2"}, False),
        ({"trunk": ""}, False),
        ({"part": "validation"}, False),
        ({"images": 199}, False),
    ],
)
def test_int8_may_cost_at_most_0_3_points_and_0_01_of_calibration(
    change: dict[str, Any], allowed: bool, manifest: Any
) -> None:
    recorded_with = manifest(replace(FLOATING, **{"trunk": TRUNK} | change))
    assert costs_nothing(recorded_with, TRUNK) is allowed
    assert Int8Use(Int8Trunks(), asked=False).allows(recorded_with, TRUNK) is allowed
    assert Int8Use(Int8Trunks(), asked=True).allows(recorded_with, TRUNK)


@pytest.mark.parametrize("record", [None, [], {}, {FLOAT32: 1, INT8: 2}, {FLOAT32: {"part": "test"}, INT8: {}}])
def test_a_record_of_another_form_says_nothing(record: Any, manifest: Any) -> None:
    made = manifest(None)
    odd = made.model_copy(update={"training": {**made.training, RECORD: record}})
    assert not costs_nothing(odd, TRUNK)
    assert not costs_nothing(manifest(None), TRUNK)


def test_without_images_nothing_was_recorded_with(manifest: Any) -> None:
    none = replace(FLOATING, images=0)
    assert not costs_nothing(manifest(replace(none, trunk=TRUNK), none), TRUNK)
