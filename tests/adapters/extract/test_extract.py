"""Fine-tuned networks of timm become adapters: exact at full rank, best approximations below, sizes as asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
from tests.adapters.extract.tuned_networks import LABELS, difference, logits_of, served, tuned
from torch import nn

from lensmount_adapters import Backbone, load_backbone, parse_adapter
from lensmount_adapters.changes.budget import Energy, MaxBytes, SameRank
from lensmount_adapters.errors import AdapterInvalid
from lensmount_adapters.extract.checkpoint import Checkpoint
from lensmount_adapters.extract.extract import Words, extract

WORDS = Words("tuned", LABELS)


@pytest.fixture(scope="module", params=["test_resnet", "test_vit", "test_efficientnet"])
def backbone(request: pytest.FixtureRequest, randomised: Callable[[Backbone], Backbone]) -> Backbone:
    return randomised(load_backbone(request.param, "random:0"))


@pytest.fixture(scope="module")
def network(backbone: Backbone) -> nn.Module:
    network: nn.Module = tuned(backbone)
    return network


def test_a_network_whose_change_has_a_low_rank_is_extracted_exactly(backbone: Backbone, network: nn.Module) -> None:
    images = torch.randn(3, *backbone.preprocessing.input_shape)
    found = extract(Checkpoint("a", network.state_dict()), backbone, SameRank(4), WORDS, torch.float32)

    assert difference(served(found.data, backbone, images), logits_of(network, images)) < 1e-5
    assert found.report.error < 1e-5
    assert found.manifest.labels == LABELS
    assert max(factors.rank for factors in found.manifest.modules.values()) == 4


def test_every_changed_tensor_is_in_the_report_and_vectors_are_exact(backbone: Backbone, network: nn.Module) -> None:
    found = extract(Checkpoint("a", network.state_dict()), backbone, SameRank(1), WORDS, torch.float32)

    layers = {layer.name: layer for layer in found.report.layers}
    assert layers.keys() == backbone.tensors.keys()
    assert found.report.unchanged == 0
    for name, layer in layers.items():
        W, tuned_W = backbone.tensors[name].double(), network.state_dict()[name].double()
        assert layer.change == (pytest.approx(float((tuned_W - W).norm() / W.norm())) if W.any() else None)
        if layer.rank is None:
            assert layer.error < 1e-6
        else:
            values = torch.linalg.svdvals((tuned_W - W).flatten(1))
            assert layer.error == pytest.approx(float(values[1:].norm() / values.norm()), abs=1e-5)


def test_the_error_of_the_stored_precision_is_reported(backbone: Backbone, network: nn.Module) -> None:
    found = extract(Checkpoint("a", network.state_dict()), backbone, Energy(1.0), WORDS)

    assert 1e-5 < found.report.error < 1e-3  # float16 has 11 bits
    assert parse_adapter(found.data).manifest.training["extraction"]["error"] == found.report.error


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_a_share_of_the_change_is_kept_in_each_layer(backbone: Backbone, network: nn.Module, share: float) -> None:
    found = extract(Checkpoint("a", network.state_dict()), backbone, Energy(share), WORDS, torch.float32)

    assert all(layer.error**2 <= 1 - share + 1e-6 for layer in found.report.layers)


def test_a_file_is_at_most_as_large_as_asked_and_uses_the_space(backbone: Backbone) -> None:
    network = tuned(backbone, rank=40)
    state = network.state_dict()
    smallest = len(extract(Checkpoint("a", state), backbone, SameRank(1), WORDS).data)
    errors = []
    for size in (smallest, 2 * smallest, 3 * smallest):
        found = extract(Checkpoint("a", state), backbone, MaxBytes(size), WORDS)
        assert 0.9 * size < len(found.data) <= size
        errors.append(found.report.error)
    assert errors == sorted(errors, reverse=True)


def test_more_ranks_bring_the_logits_closer(backbone: Backbone) -> None:
    network = tuned(backbone, rank=16)
    images = torch.randn(4, *backbone.preprocessing.input_shape)
    expected = logits_of(network, images)

    errors = [
        difference(
            served(
                extract(Checkpoint("a", network.state_dict()), backbone, SameRank(rank), WORDS).data, backbone, images
            ),
            expected,
        )
        for rank in (1, 16)
    ]

    assert errors[1] < 2e-3 < errors[0]


def test_a_network_with_the_backbone_s_weights_is_a_classifier_alone(backbone: Backbone) -> None:
    network = timm.create_model(backbone.name, num_classes=3).eval()
    network.load_state_dict(dict(backbone.tensors), strict=False)

    found = extract(Checkpoint("a", network.state_dict()), backbone, SameRank(4), WORDS, torch.float32)

    assert found.manifest.method == "head"
    assert found.report.layers == ()
    assert found.report.notes[-1].startswith("the network's weights are those of the backbone")


def test_a_network_that_was_not_trained_from_this_base_is_told(backbone: Backbone) -> None:
    network = timm.create_model(backbone.name, num_classes=3)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.ndim > 1:
                tensor.normal_(std=float(backbone.tensors[name].std()) if name in backbone.tensors else 0.1)

    found = extract(Checkpoint("a", network.state_dict()), backbone, SameRank(4), WORDS)

    assert "probably not fine-tuned from these weights" in found.report.notes[-1]


@pytest.mark.parametrize("labels", [(), ("cat",), ("a", "b", "c", "d")], ids=str)
def test_labels_that_are_not_as_many_as_the_classes_are_refused(
    backbone: Backbone, network: nn.Module, labels: tuple[str, ...]
) -> None:
    with pytest.raises(AdapterInvalid, match=r"a classifier of 3 classes and .* Fix: --labels"):
        extract(Checkpoint("a", network.state_dict()), backbone, SameRank(1), Words("tuned", labels))


@pytest.mark.parametrize("labels", [("a", "a", "b"), ("a", "", "b"), ("a", "b\n", "c"), ("a", "b", "c" * 300)], ids=str)
def test_labels_that_no_adapter_may_have_are_refused(
    backbone: Backbone, network: nn.Module, labels: tuple[str, ...]
) -> None:
    with pytest.raises(AdapterInvalid, match=r"manifest, .*Fix: "):
        extract(Checkpoint("a", network.state_dict()), backbone, SameRank(1), Words("tuned", labels))


def test_the_labels_of_the_checkpoint_are_taken_if_none_are_given(backbone: Backbone, network: nn.Module) -> None:
    checkpoint = Checkpoint("a", network.state_dict(), labels=("x", "y", "z"))

    assert extract(checkpoint, backbone, SameRank(1), Words("tuned")).manifest.labels == ("x", "y", "z")


def test_mounted_extraction_leaves_the_backbone_as_it_was(backbone: Backbone, network: nn.Module) -> None:
    served(
        extract(Checkpoint("a", network.state_dict()), backbone, SameRank(2), WORDS).data,
        backbone,
        torch.zeros(1, *backbone.preprocessing.input_shape),
    )

    assert backbone.changed() == []
