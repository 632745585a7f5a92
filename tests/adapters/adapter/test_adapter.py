"""An admitted adapter turns features into logits and scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from lensmount_adapters import Adapter, Backbone, ExactSwapper, Manifest, Preprocessing, admit
from lensmount_adapters.adapter.manifest import HeadSpec, LinearHead, SegmentationHead
from lensmount_adapters.backbone.fingerprint import BackboneRef


@pytest.mark.parametrize(
    ("orientations", "turned"),
    [
        (1, lambda x: [x]),
        (2, lambda x: [x, x.flip(-1)]),
        (4, lambda x: [x.rot90(k, (-2, -1)) for k in range(4)]),
        (8, lambda x: [y for k in range(4) for y in (x.rot90(k, (-2, -1)), x.rot90(k, (-2, -1)).flip(-1))]),
    ],
)
def test_logits_are_averaged_over_the_orientations_of_the_manifest(
    every_layer: Any, draw_adapter: Callable[..., Any], orientations: int, turned: Callable[[Tensor], list[Tensor]]
) -> None:
    backbone, parts = every_layer(), draw_adapter(every_layer())
    parts.manifest["preprocessing"]["orientations"] = orientations
    adapter = admit(parts.dump(), backbone)
    ExactSwapper(backbone).mount(adapter)
    images = torch.randn(2, 3, 16, 16)

    expected = torch.stack([adapter.logits(backbone.features(x)) for x in turned(images)]).double().mean(0)

    torch.testing.assert_close(adapter.image_logits(backbone, images).double(), expected, rtol=1e-5, atol=1e-6)


def plain(orientations: Literal[1, 2, 4, 8] = 1, head: HeadSpec | None = None) -> Adapter:
    """An adapter without deltas, whose head is a linear layer without bias."""
    manifest = Manifest(
        name="plain",
        method="head",
        backbone=BackboneRef(name="none", fingerprint="sha256:" + "0" * 64),
        preprocessing=Preprocessing(size=(16, 16), mean=(0.5,) * 3, std=(0.5,) * 3, orientations=orientations),
        labels=("no", "yes"),
        head=head or LinearHead(temperature=2.0),
        modules={},
    )
    layer = nn.Linear(3, 2, bias=False)
    layer.weight.data = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    return Adapter("sha256:" + "1" * 64, 10, manifest, (), layer)


def test_scores_are_the_softmax_of_the_head_s_logits_over_the_temperature() -> None:
    features = torch.tensor([[2.0, 0.0, 9.0], [0.0, 6.0, -1.0]], dtype=torch.float16)
    adapter = plain()

    assert torch.equal(adapter.logits(features), torch.tensor([[2.0, 0.0], [0.0, 6.0]]))
    one, three = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-3))
    expected = torch.tensor([[one, 1 - one], [1 - three, three]])
    torch.testing.assert_close(adapter.scores(features), expected)


def test_the_mean_is_over_the_orientations_of_each_image() -> None:
    """Logits come orientation by orientation: both images upright, then both mirrored."""
    logits = torch.tensor([[1.0, 0.0], [10.0, 0.0], [3.0, 4.0], [30.0, 2.0]])

    assert torch.equal(plain(orientations=2).averaged(logits), torch.tensor([[2.0, 2.0], [20.0, 1.0]]))
    assert torch.equal(plain().averaged(logits), logits)


def test_maps_are_turned_back_before_the_mean() -> None:
    upright = torch.arange(8.0).reshape(1, 2, 2, 2)
    turned = torch.cat([upright.rot90(turns, (-2, -1)) for turns in range(4)])

    averaged = plain(orientations=4, head=SegmentationHead()).averaged(turned)

    assert torch.equal(averaged, upright)


def test_bytes_are_those_of_factors_and_head(draw_adapter: Callable[..., Any], small_backbone: Backbone) -> None:
    parts = draw_adapter(small_backbone, rank=2, modules="conv_stem")
    stored = {name: tensor.half() for name, tensor in parts.tensors.items() if not name.startswith("head.")}
    head = [tensor for name, tensor in parts.tensors.items() if name.startswith("head.")]

    adapter = admit(parts.dump(torch.float16), small_backbone)

    assert adapter.nbytes() == sum(2 * t.numel() for t in stored.values()) + sum(4 * t.numel() for t in head)
