"""The model in training."""

from __future__ import annotations

import pytest
import torch

from lensmount_adapters.adapter.admission import admit
from lensmount_adapters.adapter.file import dump_adapter
from lensmount_adapters.adapter.manifest import LinearHead, Manifest
from lensmount_adapters.backbone.fingerprint import tensor_digest
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.delta.targets import select_targets
from lensmount_adapters.swap.exact import ExactSwapper
from lensmount_adapters.training.trainable import Average, FactorInit, TrainableAdapter, isolated_random_state


def adapter_for(backbone: Backbone, method: str = "lora", targets: str | None = None) -> TrainableAdapter:
    selection = select_targets(backbone.name, backbone.targets, method, targets)
    return TrainableAdapter(backbone, selection, rank=4, alpha=8.0, head=LinearHead(), classes=3, seed=0)


def images(n: int = 4, side: int = 48) -> torch.Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(1))


def train_a_little(adapter: TrainableAdapter, steps: int = 3) -> None:
    optimizer = torch.optim.AdamW(adapter.parameters().values(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        adapter.logits(images(), torch.float32).square().sum().backward()
        optimizer.step()


def test_a_new_adapter_does_not_change_the_features(backbone: Backbone) -> None:
    adapter = adapter_for(backbone)

    found = adapter.logits(images(), torch.float32)

    torch.testing.assert_close(found, adapter.head(backbone.features(images()).clone()), rtol=1e-5, atol=1e-6)


def test_init_std_draws_a_from_a_normal_distribution_and_leaves_b_zero(backbone: Backbone) -> None:
    selection = select_targets(backbone.name, backbone.targets, "lora")

    adapter = TrainableAdapter(
        backbone, selection, rank=4, alpha=8.0, head=LinearHead(), classes=3, seed=0, init=FactorInit(0.01)
    )  # fmt: skip

    drawn = torch.cat([t.flatten() for name, t in adapter.tensors().items() if name.endswith("lora_A.weight")])
    assert abs(float(drawn.std()) - 0.01) < 0.001
    assert abs(float(drawn.mean())) < 0.001
    assert float(drawn.abs().max()) > 0.02  # a uniform draw of this spread ends at 0.0173
    assert not any(t.any() for name, t in adapter.tensors().items() if name.endswith("lora_B.weight"))


@pytest.mark.parametrize("method", ["lora", "lora-tucker"])
def test_b_can_be_drawn_too_and_then_training_does_not_start_at_the_backbone(backbone: Backbone, method: str) -> None:
    selection = select_targets(backbone.name, backbone.targets, method)

    adapter = TrainableAdapter(
        backbone, selection, rank=4, alpha=8.0, head=LinearHead(), classes=3, seed=0, init=FactorInit(0.02, 0.01)
    )

    for factor, spread in (("lora_A", 0.02), ("lora_B", 0.01)):
        drawn = torch.cat([t.flatten() for name, t in adapter.tensors().items() if factor in name])
        assert abs(float(drawn.std()) / spread - 1) < 0.1
    assert not any(
        torch.equal(delta.merged(base := adapter.bases[delta.target.name]), base) for delta in adapter.deltas
    )


@pytest.mark.parametrize("method", ["lora", "lora-tucker", "dora", "bias", "norm", "head", "dora+norm"])
def test_training_changes_no_backbone_tensor_not_even_batchnorm_buffers(backbone: Backbone, method: str) -> None:
    before = {name: tensor_digest(tensor) for name, tensor in backbone.module.state_dict().items()}
    adapter = adapter_for(backbone, method)

    train_a_little(adapter)

    assert {name: tensor_digest(tensor) for name, tensor in backbone.module.state_dict().items()} == before
    assert not any(p.requires_grad or p.grad is not None for p in backbone.module.parameters())
    assert not any(module.training for module in backbone.module.modules())


@pytest.mark.parametrize("method", ["lora", "lora-tucker", "dora", "bias", "norm", "lora+norm", "dora+norm"])
def test_the_merged_adapter_serves_the_logits_that_were_trained(backbone: Backbone, method: str) -> None:
    adapter = adapter_for(backbone, method, None if method != "lora-tucker" else "conv")
    train_a_little(adapter)
    manifest = Manifest(
        name="m",
        method=method,
        backbone=backbone.ref,
        preprocessing=backbone.preprocessing,
        labels=("a", "b", "c"),
        head=LinearHead(),
        modules=adapter.modules,
    )
    with torch.no_grad():
        trained = adapter.logits(images(), torch.float32)

    served = admit(dump_adapter(manifest, adapter.stored(adapter.tensors()), torch.float32), backbone)
    swapper = ExactSwapper(backbone)
    swapper.mount(served)
    found = served.logits(backbone.features(images()))
    swapper.unmount()

    torch.testing.assert_close(found, trained, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        bare = adapter.head(backbone.features(images()).clone())
    assert not torch.allclose(found, bare, rtol=1e-2)  # the deltas have an effect


def test_the_rank_of_a_depthwise_delta_is_limited_to_full_rank_and_its_scale_is_the_same(backbone: Backbone) -> None:
    adapter = adapter_for(backbone, "lora", r"conv_dw")

    assert {factors.rank for factors in adapter.modules.values()} == {1}
    assert {factors.scale for factors in adapter.modules.values()} == {2.0}


def test_dora_trains_a_magnitude_per_output_and_stores_it_as_a_row_scale(backbone: Backbone) -> None:
    adapter = adapter_for(backbone, "dora")
    new = adapter.logits(images(), torch.float32)
    torch.testing.assert_close(new, adapter.head(backbone.features(images()).clone()), rtol=1e-4, atol=1e-5)
    magnitudes = {name: t.detach().clone() for name, t in adapter.factors.items() if name.endswith(".magnitude")}
    assert magnitudes.keys() == {f"{module}.weight.magnitude" for module in adapter.modules}

    train_a_little(adapter)

    assert not any(torch.equal(adapter.factors[name], before) for name, before in magnitudes.items())
    stored = adapter.stored(adapter.tensors())
    assert {name for name in stored if name.endswith("row_scale")} == {f"{m}.weight.row_scale" for m in adapter.modules}
    assert not any(name.endswith("magnitude") for name in stored)


def test_only_factors_and_head_are_trained_and_counted(backbone: Backbone) -> None:
    adapter = adapter_for(backbone)
    by_hand = sum(
        4 * (t.shape[0] + t.shape[1:].numel()) for t in (backbone.tensors[f"{m}.weight"] for m in adapter.modules)
    )

    assert adapter.count() == by_hand + 3 * backbone.feature_dim + 3
    assert all(tensor.requires_grad and tensor.is_leaf for tensor in adapter.parameters().values())


def test_the_average_follows_the_formula(backbone: Backbone) -> None:
    adapter = adapter_for(backbone, "head")
    average = Average(adapter, 0.5)
    bias = adapter.head.get_parameter("bias")
    expected = bias.detach().clone()
    for step in range(1, 8):
        with torch.no_grad():
            bias.add_(1)
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * bias.detach()

    torch.testing.assert_close(average.tensors["head.bias"], expected)


@pytest.mark.parametrize(("device", "forked"), [("cpu", []), ("cuda:1", [torch.device("cuda:1")])])
def test_the_random_state_of_the_device_is_kept_and_no_other_gpu_is_touched(
    device: str, forked: list[torch.device], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[torch.device]] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: asked.append(devices))
    isolated_random_state(device)

    assert asked == [forked]
