"""Behind a trunk, a mixed branch of a large network gives each sample what merging gives, in float32."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from lensmount_adapters import Backbone, load_backbone
from lensmount_adapters.delta.kinds import Delta
from lensmount_adapters.graph.functional import FunctionalBranch, frozen, functional_branch
from lensmount_adapters.graph.segments import Segments
from lensmount_adapters.runners.mixed import mixed

if TYPE_CHECKING:
    from tests.adapters.runners.conftest import Mixing

LARGE = (
    ("tf_efficientnet_lite0", "blocks.4.0.conv_pw.weight", r"blocks\.[456]\..*|conv_head|bn2"),
    ("mobilenetv3_large_100", "blocks.4.0.conv_pw.weight", r"blocks\.[456]\..*|conv_head"),
    (
        "swin_tiny_patch4_window7_224",
        "layers.2.blocks.5.norm1.weight",
        r"layers\.(2\.blocks\.5|3)\..*(qkv|proj|fc.|norm.*)|norm",
    ),
)
per_sample = pytest.mark.parametrize("per_sample", [False, True], ids=["concatenated", "per sample"])


@dataclass(frozen=True)
class Cut:
    """A backbone cut in two, four adapters behind the cut, and what the trunk returns for five images."""

    backbone: Backbone
    merged: FunctionalBranch
    adapters: list[tuple[Delta, ...]]
    activations: Tensor


@pytest.fixture(scope="module")
def cut(
    draw_adapter: Callable[..., Any], mixing: type[Mixing], randomised: Callable[[Backbone], Backbone]
) -> Callable[[str, str, str], Cut]:
    """`cut("resnet34", "layer4.0.conv1.weight", r"layer4.*")`, made once for both forms of a branch."""

    @functools.lru_cache(maxsize=1)  # large networks
    def make(name: str, first: str, modules: str) -> Cut:
        backbone = randomised(load_backbone(name, "random:0"))
        drawn = [
            draw_adapter(backbone, method, rank=rank, seed=rank, modules=modules, size=size)
            for method, rank, size in (("mixed", 2, 0.1), ("lora", 4, 0.1), ("bias", 1, 0.1), ("norm", 3, 0.4))
        ]
        halves = Segments(backbone.module).halves({first})
        assert halves.trunk is not None
        with torch.inference_mode():
            activations = frozen(halves.trunk)(mixing.images_for(backbone, 5))
        adapters = [mixing.deltas_of(backbone, parts) for parts in drawn]
        return Cut(backbone, functional_branch(halves.branch, backbone), adapters, activations)

    return make


@per_sample
@pytest.mark.parametrize(("name", "first", "modules"), LARGE)
def test_a_branch_behind_a_trunk_mixes_adapters_of_all_methods_and_ranks(
    name: str,
    first: str,
    modules: str,
    per_sample: bool,
    cut: Callable[[str, str, str], Cut],
    mixing: type[Mixing],
) -> None:
    """Compared with merged weights passed to the functional branch, sample by sample, in float32."""
    made = cut(name, first, modules)
    backbone, merged, adapters, activations = made.backbone, made.merged, made.adapters, made.activations
    rows = (3, 1, 0, 2, 1)
    branch = mixed(merged, mixing.union(merged, adapters), slots=4, rank=4, per_sample=per_sample)

    features = mixing.answers(branch, activations, rows, branch.pack([branch.prepare(deltas) for deltas in adapters]))

    bases = dict(zip(merged.inputs, merged.base, strict=True))
    for sample, row in enumerate(rows):
        with torch.inference_mode():
            weights = bases | merged.merged(adapters[row])
            expected = merged.module(activations[sample : sample + 1], *weights.values())
            base = merged.module(activations[sample : sample + 1], *merged.base)
        mixing.assert_close(features[sample : sample + 1], expected, 2e-5)
        assert (features[sample] - base[0]).abs().max() > 1e-3 * base.abs().max()
    assert backbone.changed() == []
