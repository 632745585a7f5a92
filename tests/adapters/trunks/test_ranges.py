"""Ranges are those of the activations that enter each convolution, and a record that is not one has none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lensmount_adapters import Backbone, admit
from lensmount_adapters.adapter.manifest import Manifest
from lensmount_adapters.graph.functional import functional_branch
from lensmount_adapters.graph.segments import Halves
from lensmount_adapters.trunks.ranges import RECORD, measured_ranges, ranges_of, recorded_ranges

TRUNK = "sha256:1"


def test_a_range_is_the_mean_over_batches_of_what_enters_the_layer(
    backbone: Backbone, halves: Halves, draw_adapter: Any
) -> None:
    assert halves.trunk is not None
    adapter = admit(draw_adapter(backbone, modules=r"layer4.*").dump(), backbone)
    branch, twin = functional_branch(halves.branch, backbone), backbone.twin().module
    seen: dict[str, list[tuple[float, float]]] = {}

    def watch(name: str, layer: nn.Module) -> None:
        def enters(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            seen.setdefault(f"{name}.weight", []).append((inputs[0].min().item(), inputs[0].max().item()))

        layer.register_forward_pre_hook(enters)

    for delta in adapter.deltas:
        live = twin.get_parameter(delta.target.name)
        live.data = delta.merged(live.data)
    for name, layer in twin.named_modules():
        if name.startswith("layer4") and isinstance(layer, nn.Conv2d):
            watch(name, layer)
    batches = [torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    with torch.no_grad():
        activations = [halves.trunk(images) for images in batches]
        for images in batches:
            twin(images)
    merged = branch.merged(adapter.deltas)
    weights = [merged.get(name, base) for name, base in zip(branch.inputs, branch.base, strict=True)]

    found = measured_ranges(branch, weights, activations)

    assert found.keys() == seen.keys()
    for name, each in seen.items():
        expected = torch.tensor(each, dtype=torch.float64).mean(0).tolist()
        assert found[name] == pytest.approx(expected, rel=1e-3, abs=1e-5)


@pytest.fixture
def manifest(draw_manifest: Any) -> Any:
    """`manifest(record)`: a manifest with this record of ranges."""

    def make(record: Any) -> Manifest:
        drawn: Manifest = draw_manifest(labels=("no", "yes"))
        return drawn.model_copy(update={"training": {**drawn.training, RECORD: record}})

    return make


def test_ranges_are_read_as_they_were_recorded_and_only_behind_their_trunk(manifest: Any) -> None:
    recorded = recorded_ranges({"a.weight": (-1.0, 2.123456789), "b.weight": (0.0, 0.0)}, TRUNK, 60)[RECORD]
    assert ranges_of(manifest(recorded), TRUNK) == {"a.weight": (-1.0, 2.12346), "b.weight": (0.0, 0.0)}
    assert ranges_of(manifest(recorded), "sha256:2") == {}


@pytest.mark.parametrize(
    "layers",
    [
        *(None, 3, [], {"a": 1}, {"a": [1.0]}, {"a": [0.0, 1.0, 2.0]}, {"a": ["0", "1"]}, {"a": [False, True]}),
        *({"a": [2.0, 1.0]}, {"a": [0.0, float("nan")]}, {"a": [0.0, float("inf")]}, {"a": [-1e30, 1.0]}),
        {str(number): [0.0, 1.0] for number in range(5000)},
    ],
)
def test_a_record_of_another_form_has_no_ranges(layers: Any, manifest: Any) -> None:
    assert ranges_of(manifest({"trunk": TRUNK, "images": 1, "layers": layers}), TRUNK) == {}
    assert ranges_of(manifest(layers), TRUNK) == {}
