"""A job is refused before it is queued if it would take a worker for months, or search its layers for years."""

from __future__ import annotations

from typing import Any

import pytest

from lensmount_adapters import Backbone
from lensmount_service.jobs.bounds import pixels_of, refusal_of

CLASSES = {"a": 30, "b": 70}
OPTIONS: dict[str, Any] = {
    **{"method": "lora", "targets": None, "epochs": 10, "size": 100, "depth": None},
    **{"shots": None, "views": 4, "cache_trunk": "auto"},
}


@pytest.mark.parametrize(
    ("changes", "pixels"),
    [
        ({}, 100 * 10 * 100 * 100),
        ({"epochs": None}, 100 * 12 * 100 * 100),
        ({"size": None}, 100 * 10 * 64 * 64),  # the backbone's own
        ({"shots": 40}, (30 + 40) * 10 * 100 * 100),
        ({"views": 50}, 100 * 10 * 100 * 100),
        ({"views": 50, "cache_trunk": "on"}, 100 * 50 * 100 * 100),
        ({"depth": 9}, 100 * 10 * 100 * 100),  # of volumes alone
    ],
)
def test_pixels_are_images_times_passes_times_the_size_of_an_input(
    backbone: Backbone, changes: dict[str, Any], pixels: int
) -> None:
    assert pixels_of(OPTIONS | changes, CLASSES, backbone) == pixels
    assert refusal_of(OPTIONS | changes, CLASSES, backbone, pixels) is None
    refusal = refusal_of(OPTIONS | changes, CLASSES, backbone, pixels - 1)
    assert refusal is not None
    assert "Fix: ask for fewer `epochs`" in str(refusal)


@pytest.mark.parametrize("method", ["lora", "norm", "bias", "lora+norm"])
def test_an_expression_that_selects_no_layer_is_refused_and_one_that_does_is_not(
    backbone: Backbone, method: str
) -> None:
    for expression, is_taken in (("nothing", False), ("layer4", True)):
        refusal = refusal_of(OPTIONS | {"method": method, "targets": expression}, CLASSES, backbone, 10**12)
        assert (refusal is None) == is_taken
        assert is_taken or "Fix: widen the expression" in str(refusal)


def test_a_head_alone_has_no_layers_to_select(backbone: Backbone) -> None:
    assert refusal_of(OPTIONS | {"method": "head", "targets": "nothing"}, CLASSES, backbone, 10**12) is None
