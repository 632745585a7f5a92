"""int8 is used for an adapter where somebody asked for it, or where its record says that it costs nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.trunks.int8 import Int8Trunks
from lensmount_adapters.trunks.ranges import recorded_ranges
from lensmount_adapters.trunks.record import (
    FLOAT32,
    INT8,
    INT8_BRANCH,
    RECORD,
    Figures,
    Int8Use,
    costs_nothing,
    recorded,
)

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


@pytest.mark.parametrize(
    ("lost", "branches", "allowed"), [(0.002, True, True), (0.004, True, False), (0, False, False)]
)
def test_a_branch_is_in_int8_where_that_is_wanted_and_costs_nothing(
    lost: float, branches: bool, allowed: bool, manifest: Any
) -> None:
    ranges = {"layer4.0.conv1.weight": (0.0, 3.5)}
    int8 = replace(FLOATING, trunk=TRUNK, balanced_accuracy=0.95 - lost)
    made = manifest(replace(FLOATING, trunk=TRUNK))
    figures = {FLOAT32: FLOATING, INT8: int8, INT8_BRANCH: int8}
    known = made.model_copy(update={"training": recorded(figures) | recorded_ranges(ranges, TRUNK, 60)})
    for asked in (False, True):
        use = Int8Use(Int8Trunks(), asked, branches)
        assert use.branch_ranges(known, TRUNK) == (ranges if allowed else {})
        assert use.branch_ranges(known, "sha256:2") == {}
        assert use.branch_ranges(made, TRUNK) == {}
