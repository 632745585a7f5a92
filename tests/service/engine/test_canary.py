"""An adapter whose answers overflow is refused when it is uploaded, with the tensor that is to blame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import safetensors.torch
import torch
from fastapi.testclient import TestClient

from lensmount_adapters import Backbone, admit, parse_adapter
from lensmount_adapters.inputs.rules import VolumePreprocessing
from lensmount_service.engine.canary import canaries, culprit

if TYPE_CHECKING:
    from tests.service.conftest import ListPublished, MakeAdapter


def edited(data: bytes, manifest: dict[str, Any] | None = None, **tensors: torch.Tensor) -> bytes:
    file = parse_adapter(data)
    text = file.manifest.model_copy(update=manifest or {}).dump()
    named = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    saved: bytes = safetensors.torch.save({**file.tensors, **named}, metadata={"lensmount": text})
    return saved


def test_finite_tensors_whose_answers_overflow_are_refused_by_name_and_nothing_is_stored(
    shared_client: TestClient, make_adapter: MakeAdapter, backbone: Backbone, published: ListPublished
) -> None:
    before = published(shared_client)
    data = edited(make_adapter(3), head__weight=torch.full((2, backbone.feature_dim), 3e38))

    refused = shared_client.put("/adapters/hot", content=data)

    assert (refused.status_code, refused.json()["code"]) == (422, "adapter_not_finite")
    assert refused.json()["detail"].startswith("head.weight: the scores of a test image are not finite")
    assert published(shared_client) == before
    assert shared_client.get("/health/ready").json()["quarantined"] == 0


def test_a_sigmoid_of_an_infinite_logit_is_not_a_confident_answer(
    shared_client: TestClient, make_adapter: MakeAdapter, backbone: Backbone
) -> None:
    head = parse_adapter(make_adapter(3)).manifest.head.model_copy(update={"activation": "sigmoid"})
    weight = torch.full((2, backbone.feature_dim), 3e38)

    refused = shared_client.put("/adapters/hot", content=edited(make_adapter(3), {"head": head}, head__weight=weight))

    assert (refused.status_code, refused.json()["code"]) == (422, "adapter_not_finite")


def test_the_test_images_are_black_white_noise_and_a_gradient_after_the_rule(
    backbone: Backbone, make_adapter: MakeAdapter
) -> None:
    adapter = admit(make_adapter(1), backbone)
    black, white, noise, gradient = canaries(adapter)  # mean and std of the rule are 0.5

    assert black.shape == (3, 64, 64)
    assert black.unique().tolist() == [-1.0]
    assert white.unique().tolist() == [1.0]
    assert -1 <= noise.min() < -0.9 < 0.9 < noise.max() <= 1
    assert gradient[0, 0].tolist() == pytest.approx([2 * index / 63 - 1 for index in range(64)], abs=1e-6)
    assert torch.equal(canaries(adapter), canaries(adapter))


def test_volumes_have_test_volumes(backbone: Backbone, make_adapter: MakeAdapter) -> None:
    adapter = admit(make_adapter(1), backbone)
    rule = VolumePreprocessing(depth=4, size=(32, 48), mean=(0, 0, 0), std=(1, 1, 1))
    object.__setattr__(adapter, "manifest", adapter.manifest.model_copy(update={"preprocessing": rule}))

    assert canaries(adapter).shape == (4, 3, 4, 32, 48)


def test_of_deltas_the_largest_is_to_blame_if_the_head_is_well(backbone: Backbone, make_adapter: MakeAdapter) -> None:
    name = "layer4.0.conv2.lora_B.weight"
    tensors = parse_adapter(make_adapter(1)).tensors

    louder: dict[str, Any] = {name: tensors[name] * 4}
    adapter = admit(edited(make_adapter(1), **louder), backbone)

    assert culprit(adapter, backbone) == "layer4.0.conv2.weight"
