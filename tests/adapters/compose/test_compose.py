"""Whole adapters composed: weights and logits against float64 sums and against PEFT's add_weighted_adapter."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.adapters.compose.drawn import adapter, live_weights, low_rank
from torch import Tensor

from lensmount_adapters import Adapter, Backbone, ExactSwapper, admit, dump_adapter, load_backbone
from lensmount_adapters.changes.budget import Energy, SameRank
from lensmount_adapters.compose.compose import Source, compose
from lensmount_adapters.compose.merging import Dare, Linear, Merging, Ties
from lensmount_adapters.compose.stacking import change
from lensmount_adapters.errors import AdapterInvalid

LAYERS = ("layer1.0.conv1", "layer2.0.conv1", "layer3.0.conv1")


@pytest.fixture(scope="module")
def backbone(randomised: Callable[[Backbone], Backbone]) -> Backbone:
    return randomised(load_backbone("test_resnet", "random:0"))


@pytest.fixture(scope="module")
def pair(backbone: Backbone) -> tuple[Adapter, Adapter]:
    """Two adapters of several kinds, which share some layers."""
    draw = torch.Generator().manual_seed(2)
    size = backbone.targets["bn1.weight"].shape[0]
    first = low_rank(backbone, 2, *LAYERS[:2]) | {"bn1.bias.delta": torch.randn(size, generator=draw)}
    first |= {"bn1.running_var.delta": torch.rand(size, generator=draw)}
    second = low_rank(backbone, 3, *LAYERS[1:], seed=1) | {"bn1.bias.delta": torch.randn(size, generator=draw)}
    second |= {f"{LAYERS[0]}.weight.row_scale": 1 + torch.rand(backbone.targets[f"{LAYERS[0]}.weight"].shape[0]) / 5}
    return (
        adapter(backbone, "first", first, ("cat", "dog"), training={"weights": "random:0"}, license="CC0"),
        adapter(backbone, "second", second, ("oak", "elm", "ash"), license="MIT"),
    )


def sources(pair: tuple[Adapter, Adapter], *weights: float) -> list[Source]:
    return [Source(each.manifest.name, weight, each) for each, weight in zip(pair, weights, strict=True)]


def features(backbone: Backbone, mounted: Adapter, images: Tensor) -> Tensor:
    swapper = ExactSwapper(backbone)
    swapper.mount(mounted)
    try:
        return backbone.features(images)
    finally:
        swapper.unmount()


@pytest.mark.parametrize("weights", [(0.7, 0.3), (1, 1), (1, -1), (0.5, 0), (0, 1)], ids=str)
def test_a_linear_composition_has_the_sum_of_the_changes(
    backbone: Backbone, pair: tuple[Adapter, Adapter], weights: tuple[float, float]
) -> None:
    expected = live_weights(backbone, *zip(pair, weights, strict=True))

    found = compose(sources(pair, *weights), backbone, "both", dtype=torch.float32)

    base = backbone.base(expected)
    live = {delta.target.name: delta.merged(base[delta.target.name]) for delta in found.adapter.deltas}
    for name, weight in expected.items():
        assert torch.allclose(live.get(name, base[name]).double(), weight, rtol=1e-5, atol=1e-6), name
    assert found.error < 1e-6


def test_the_new_adapter_has_the_head_labels_and_record_of_one_source(
    backbone: Backbone, pair: tuple[Adapter, Adapter]
) -> None:
    composed = compose(sources(pair, 0.7, 0.3), backbone, "both", head=1)
    x = torch.randn(2, backbone.feature_dim, generator=torch.Generator().manual_seed(0))

    manifest = composed.adapter.manifest
    assert (manifest.name, manifest.method, manifest.labels) == ("both", "composed", ("oak", "elm", "ash"))
    assert manifest.license == "CC0 and MIT"
    assert manifest.description == "0.7 x first + 0.3 x second, merged by linear, with the head of second"
    assert [entry["weight"] for entry in manifest.training["composed"]["adapters"]] == [0.7, 0.3]
    stored = {name: tensor.half().float() for name, tensor in pair[1].head.state_dict().items()}  # as in the file
    logits = x @ stored["weight"].T + stored["bias"]
    assert torch.allclose(composed.adapter.logits(x), logits, atol=1e-5)
    assert compose(sources(pair, 1, 1), backbone, "x", head=0).adapter.manifest.training["weights"] == "random:0"


def test_low_rank_stays_low_rank(backbone: Backbone, pair: tuple[Adapter, Adapter]) -> None:
    found = compose(sources(pair, 0.7, 0.3), backbone, "both").adapter.manifest.modules

    assert {path: factors.rank for path, factors in found.items()} == {LAYERS[1]: 5, LAYERS[2]: 3}


@pytest.mark.parametrize("merging", [Ties(0.4), Dare(0.4, seed=3)], ids=["ties", "dare"])
def test_ties_and_dare_merge_each_tensor_of_the_adapters_that_change_it(
    backbone: Backbone, pair: tuple[Adapter, Adapter], merging: Merging
) -> None:
    found = compose(sources(pair, 0.7, 0.3), backbone, "both", merging=merging, dtype=torch.float32)

    name = f"{LAYERS[1]}.weight"
    base = backbone.base([name])[name]
    changes = torch.stack([change(delta, base) for each in pair for delta in each.deltas if delta.target.name == name])
    expected = merging.merge(name, changes, torch.tensor([0.7, 0.3]).double())
    (delta,) = (delta for delta in found.adapter.deltas if delta.target.name == name)
    assert torch.allclose(change(delta, base), expected, rtol=1e-5, atol=1e-7)
    assert found.adapter.manifest.training["composed"]["method"] == merging.name


def test_a_budget_stores_a_merged_change_in_ranks(backbone: Backbone, pair: tuple[Adapter, Adapter]) -> None:
    whole = compose(sources(pair, 0.7, 0.3), backbone, "both", merging=Ties(0.2))
    ranks = compose(sources(pair, 0.7, 0.3), backbone, "both", merging=Ties(0.2), budget=SameRank(4))
    exact = compose(sources(pair, 0.7, 0.3), backbone, "both", budget=Energy(1), dtype=torch.float32)

    assert max(factors.rank for factors in ranks.adapter.manifest.modules.values()) == 4
    assert len(ranks.data) < len(whole.data)
    assert whole.error < 1e-3 < ranks.error < 1
    assert exact.error < 1e-5


@pytest.mark.parametrize(
    ("combination", "options"), [("cat", {}), ("svd", {"svd_rank": 2}), ("ties_svd", {"svd_rank": 32, "density": 0.3})]
)
def test_features_are_those_of_peft_s_weighted_adapter(
    backbone: Backbone, combination: str, options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    config = LoraConfig(r=3, lora_alpha=4.5, target_modules=list(LAYERS), init_lora_weights=False)
    network = get_peft_model(copy.deepcopy(backbone.module), config, adapter_name="one")
    network.add_adapter("two", config)
    network.add_weighted_adapter(["one", "two"], [0.7, 0.3], "three", combination_type=combination, **options)
    network.set_adapter("three")
    pair = [
        adapter(
            backbone,
            name,
            {
                key.removeprefix("base_model.model.").replace(f".{name}.", "."): tensor
                for key, tensor in network.state_dict().items()
                if f".{name}.weight" in key
            },
        )
        for name in ("one", "two")
    ]
    merging = Ties(0.3) if "ties" in combination else Linear()
    budget = SameRank(options["svd_rank"]) if "svd" in combination else None
    images = torch.randn(2, *backbone.preprocessing.input_shape)

    composed = compose(
        [Source("a", 0.7, pair[0]), Source("b", 0.3, pair[1])],
        backbone,
        "c",
        merging=merging,
        budget=budget,
        dtype=torch.float32,
    )

    with torch.no_grad():
        expected = network.eval()(images)
    assert (expected - backbone.features(images)).norm() > 1e-2 * expected.norm()
    assert (features(backbone, composed.adapter, images) - expected).norm() < 1e-5 * expected.norm()


def test_weights_that_make_a_variance_negative_are_refused_and_the_advice_works(backbone: Backbone) -> None:
    name = "bn1.running_var"
    shrunk = adapter(backbone, "low", {f"{name}.delta": -0.9 * backbone.tensors[name]})

    with pytest.raises(AdapterInvalid, match=r"add up to 2, .* Fix: divide each weight by their sum"):
        compose([Source("a", 1, shrunk), Source("b", 1, shrunk)], backbone, "x")

    assert compose([Source("a", 0.5, shrunk), Source("b", 0.5, shrunk)], backbone, "x").error < 1e-3


def test_other_preprocessing_of_a_source_is_said(backbone: Backbone) -> None:
    usual = adapter(backbone, "usual", low_rank(backbone, 1, LAYERS[0]))
    manifest = usual.manifest.model_copy(
        update={"preprocessing": backbone.preprocessing.model_copy(update={"resize": "squash"})}
    )
    other = Adapter(usual.digest, usual.size_bytes, manifest, usual.deltas, usual.head)

    found = compose([Source("usual", 1, usual), Source("other", 1, other)], backbone, "x")

    assert found.notes == (
        "other: trained with other preprocessing than usual, and the new adapter has that of the latter",
    )


def test_a_composition_promises_nothing_and_a_note_says_so(
    backbone: Backbone, draw_adapter: Callable[..., Any], draw_trust: Callable[..., Any]
) -> None:
    measured = admit(dump_adapter(*draw_trust(backbone, draw_adapter(backbone))), backbone)
    other = admit(draw_adapter(backbone, seed=1).dump(), backbone)
    made = compose([Source("one", 0.5, measured), Source("two", 0.5, other)], backbone, "both")
    assert measured.trust is not None
    assert made.adapter.trust is None
    assert any("calibration and thresholds are left out" in note for note in made.notes)
    assert not compose([Source("two", 1, other), Source("one", 0.5, measured)], backbone, "both").notes
