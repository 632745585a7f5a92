"""What one job may ask of a worker, checked before it is queued: a bounded amount of work, and layers that are found.

Each option has a range of its own (options/table.py), but their product has none: 1,000 epochs of 100,000 images of
1,024 x 1,024 pixels would keep a worker for years. And Python's `re` can search a name for as long, which nothing can
interrupt: the worker would not even see that its job was cancelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.delta.targets import select_targets
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.groups.group_search import CPU_S, search_names
from lensmount_adapters.inputs.rules import VolumePreprocessing
from lensmount_service.errors import RequestInvalid

USUAL_EPOCHS = 12  # if the job states none; small datasets get more


def refusal_of(
    options: Mapping[str, Any], classes: Mapping[str, int], backbone: Backbone, max_pixels: float
) -> RequestInvalid | None:
    """Why a job with these options cannot be queued, or None. `classes` has the number of images of each class."""
    try:
        _require_budget(options, classes, backbone, max_pixels)
        _require_layers(options, backbone)
    except RequestInvalid as error:
        return error
    return None


def pixels_of(options: Mapping[str, Any], classes: Mapping[str, int], backbone: Backbone) -> int:
    """The pixels that go through the backbone: images x passes x the size of one input."""
    rule = backbone.preprocessing
    height, width = (options["size"],) * 2 if options["size"] else rule.size
    depth = (options["depth"] or rule.depth) if isinstance(rule, VolumePreprocessing) else 1
    images = sum(min(count, options["shots"] or count) for count in classes.values())
    cached = options["views"] if options["cache_trunk"] == "on" else 0
    passes = max(options["epochs"] or USUAL_EPOCHS, cached)
    return int(images * passes * depth * height * width)


def _require_budget(
    options: Mapping[str, Any], classes: Mapping[str, int], backbone: Backbone, max_pixels: float
) -> None:
    """Raises RequestInvalid."""
    wanted = pixels_of(options, classes, backbone)
    if wanted > max_pixels:
        raise RequestInvalid(
            f"found a job of {wanted:.2g} pixels (images x epochs x the size of an input), expected at most "
            f"{max_pixels:.2g}. Fix: ask for fewer `epochs`, `views` or `shots`, or a smaller `size`; the server's "
            "operator may raise LENSMOUNT_MAX_JOB_PIXELS"
        )


def _require_layers(options: Mapping[str, Any], backbone: Backbone) -> None:
    """Raises RequestInvalid if `targets` selects no layer, or takes too long to find one."""
    expression = options["targets"]
    if expression is None:
        return
    try:
        search_names(expression, sorted({target.module for target in backbone.targets.values()}))
    except TimeoutError as error:
        raise RequestInvalid(
            f"targets {expression[:80]!r}: found an expression that searches the names of the layers for more than "
            f"{CPU_S} s, expected less. Fix: write it without a repetition in a repetition, such as (a+)+"
        ) from error
    if options["method"] != "head":
        try:
            select_targets(backbone.name, backbone.targets, options["method"], expression)
        except TrainingError as error:
            raise RequestInvalid(str(error)) from error
