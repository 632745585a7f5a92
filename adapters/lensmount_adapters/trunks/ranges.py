"""The ranges of the activations that enter an adapter's layers, measured on images of its task, for a branch in int8.

They are in the training record, so that a server needs no image to compute the adapter's branch in int8.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.graph.functional import FunctionalBranch

RECORD = "int8_ranges"  # of the training record
KERNEL_DIMS = 4  # of a convolution of images: [out, in, height, width]
MOST_LAYERS, LARGEST = 4096, 1e9  # of a record that is believed

Ranges = Mapping[str, tuple[float, float]]  # lowest and highest activation, by the name of the layer's weight


def measured_ranges(branch: FunctionalBranch, weights: Sequence[Tensor], activations: Iterable[Tensor]) -> Ranges:
    """What enters the convolutions of the branch with these weights: the mean over batches of the lowest and highest.

    `activations` are batches [N, C, H, W] of what the trunk gives. The mean leaves out what one image alone has.
    """
    found: dict[str, list[tuple[float, float]]] = {}

    class Observer(fx.Interpreter):
        def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            weight = kwargs.get("weight")
            if isinstance(weight, Tensor) and id(weight) in names and weight.ndim == KERNEL_DIMS:
                found.setdefault(names[id(weight)], []).append((float(args[0].min()), float(args[0].max())))
            return super().call_function(target, args, kwargs)

    names = {id(weight): name for name, weight in zip(branch.inputs, weights, strict=True)}
    with torch.inference_mode():
        for batch in activations:
            Observer(branch.module).run(batch, *weights)
    return {
        name: (sum(low for low, _ in each) / len(each), sum(high for _, high in each) / len(each))
        for name, each in found.items()
    }


def recorded_ranges(ranges: Ranges, trunk: str, images: int) -> dict[str, Any]:
    """The entry of a training record: ranges behind the int8 trunk with this recipe, from this number of images."""
    layers = {name: [float(f"{bound:.6g}") for bound in each] for name, each in ranges.items()}
    return {RECORD: {"trunk": trunk, "images": images, "layers": layers}}


def ranges_of(manifest: Manifest, trunk: str) -> Ranges:
    """The recorded ranges behind the int8 trunk with this recipe.

    A record of another trunk, of another form or with an impossible range has none.
    """
    record = manifest.training.get(RECORD)
    layers = record.get("layers") if isinstance(record, dict) and record.get("trunk") == trunk else None
    if not isinstance(layers, dict) or len(layers) > MOST_LAYERS or not all(map(_is_range, layers.values())):
        return {}
    return {name: (float(low), float(high)) for name, (low, high) in layers.items()}


def _is_range(found: Any) -> bool:
    if not isinstance(found, list | tuple) or len(found) != 2:
        return False
    numbers = all(isinstance(bound, int | float) and not isinstance(bound, bool) for bound in found)
    return numbers and -LARGEST <= found[0] <= found[1] <= LARGEST
