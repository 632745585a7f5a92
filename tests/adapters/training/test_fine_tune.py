"""Full fine-tuning trains every tensor of the named modules and nothing else; it starts at the backbone."""

from __future__ import annotations

import pytest
import torch

from lensmount_adapters import Backbone
from lensmount_adapters.adapter.manifest import LinearHead
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.training.fine_tune import TrainableModules, select_modules


def trainable(backbone: Backbone, modules: str) -> TrainableModules:
    selection = select_modules(backbone, modules)
    return TrainableModules(backbone, selection, rank=1, alpha=1.0, head=LinearHead(), classes=3, seed=0)


def test_every_tensor_of_the_modules_is_selected_and_no_other(backbone: Backbone) -> None:
    selection = select_modules(backbone, r"^blocks\.1\.0\.")

    names = {target.name for target in selection.additive}
    module = backbone.module.get_submodule("blocks.1.0")
    assert names == {f"blocks.1.0.{name}" for name, t in module.state_dict().items() if t.is_floating_point()}
    assert not selection.low_rank


def test_an_expression_that_matches_no_module_is_refused_with_an_example(backbone: Backbone) -> None:
    with pytest.raises(TrainingError, match=r"matches 'nowhere', expected a path such as conv_stem"):
        select_modules(backbone, "nowhere")


def test_training_starts_at_the_backbone_and_counts_whole_tensors(backbone: Backbone) -> None:
    adapter = trainable(backbone, r"^blocks\.1\.0\.conv_pw$")
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(1))

    logits = adapter.logits(images, torch.float32)

    torch.testing.assert_close(logits, adapter.head(backbone.features(images).clone()), rtol=1e-5, atol=1e-6)
    weight = backbone.tensors["blocks.1.0.conv_pw.weight"]
    assert adapter.count() == weight.numel() + 3 * backbone.feature_dim + 3


def test_a_step_moves_the_named_weights_by_its_gradient(backbone: Backbone) -> None:
    adapter = trainable(backbone, r"^blocks\.1\.0\.conv_pw$")
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(1))

    adapter.logits(images, torch.float32).square().sum().backward()
    (delta,) = adapter.factors.values()
    assert delta.grad is not None
    with torch.no_grad():
        delta -= 0.1 * delta.grad

    (learned,) = adapter.deltas
    base = backbone.tensors[learned.target.name]
    assert torch.equal(learned.merged(base), base - 0.1 * delta.grad)
    assert not torch.equal(learned.merged(base), base)
    assert backbone.changed() == []
