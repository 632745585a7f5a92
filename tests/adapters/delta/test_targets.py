"""Which backbone tensors an adapter trains."""

from __future__ import annotations

import pytest
import timm
import torch

from lensmount_adapters.backbone.load import load_backbone
from lensmount_adapters.backbone.target import Layer, Target
from lensmount_adapters.delta.targets import parse_method, select_targets
from lensmount_adapters.errors import TrainingError


def targets_of(name: str) -> dict[str, Target]:
    """The targets of a timm model without weights, listed independently of `Backbone`."""
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=0)
    kinds: dict[type[torch.nn.Module], Layer] = {
        torch.nn.Linear: Layer.LINEAR,
        torch.nn.Conv2d: Layer.CONV,
        torch.nn.LayerNorm: Layer.NORM,
        torch.nn.BatchNorm2d: Layer.BATCH_NORM,
    }
    return {
        f"{path}.{name}": Target(f"{path}.{name}", tuple(p.shape), layer, getattr(module, "groups", 1))
        for path, module in model.named_modules()
        for kind, layer in kinds.items()
        if isinstance(module, kind)
        for name, p in module.named_parameters(recurse=False)
    }


@pytest.mark.parametrize(("name", "blocks"), [("lite0", 3 + 4 + 1), ("lite1", 4 + 5 + 1), ("lite2", 4 + 5 + 1)])
def test_efficientnet_lite_trains_the_pointwise_convolutions_of_the_last_stages_and_conv_head(
    name: str, blocks: int
) -> None:
    """Two pointwise convolutions in each of the paper's blocks of stages 5 to 7, times 1.1 and 1.2 and rounded up."""
    backbone = f"tf_efficientnet_{name}"
    chosen = [t.module for t in select_targets(backbone, targets_of(backbone), "lora").low_rank]

    assert len(chosen) == 2 * blocks + 1
    assert chosen[0] == "blocks.4.0.conv_pw"
    assert chosen[-1] == "conv_head"
    assert not any("conv_dw" in module for module in chosen)


def test_resnet34_trains_conv1_and_conv2_of_layer3_and_layer4_as_the_seed_does() -> None:
    chosen = [t.module for t in select_targets("resnet34", targets_of("resnet34"), "lora").low_rank]

    assert len(chosen) == 2 * (6 + 3)
    assert {module.split(".")[0] for module in chosen} == {"layer3", "layer4"}
    assert {module.split(".")[-1] for module in chosen} == {"conv1", "conv2"}


def test_vgg16_trains_the_three_convolutions_of_block_5() -> None:
    chosen = select_targets("vgg16", targets_of("vgg16"), "lora").low_rank

    assert [t.shape for t in chosen] == [(512, 512, 3, 3)] * 3
    assert [t.module for t in chosen] == ["features.24", "features.26", "features.28"]


def test_a_vit_trains_the_fused_qkv_of_every_block() -> None:
    name = "vit_base_patch32_clip_224"

    chosen = [t.module for t in select_targets(name, targets_of(name), "lora").low_rank]

    assert chosen == [f"blocks.{i}.attn.qkv" for i in range(12)]


def test_an_unknown_family_trains_the_last_third_of_its_dense_layers() -> None:
    targets = targets_of("convnext_atto")
    dense = [t for t in targets.values() if t.name.endswith(".weight") and t.groups == 1 and len(t.shape) in (2, 4)]

    chosen = select_targets("convnext_atto", targets, "lora").low_rank

    assert len(chosen) == len(dense) // 3
    assert list(chosen) == dense[-len(chosen) :]


def test_norm_trains_the_whole_backbone_alone_and_only_the_last_stages_with_lora() -> None:
    targets = targets_of("tf_efficientnet_lite0")

    alone = select_targets("tf_efficientnet_lite0", targets, "norm")
    with_lora = select_targets("tf_efficientnet_lite0", targets, "lora+norm")

    assert len(alone.additive) == 2 * 49  # 49 BatchNorms: weight and bias
    assert alone.low_rank == ()
    assert {t.module.split(".")[1] for t in with_lora.additive if "." in t.module} == {"4", "5", "6"}
    assert len(with_lora.low_rank) == 17


def test_an_expression_replaces_the_preset_and_may_name_depthwise_layers() -> None:
    chosen = select_targets("tf_efficientnet_lite0", targets_of("tf_efficientnet_lite0"), "lora", r"blocks\.6.*conv_dw")

    assert [t.module for t in chosen.low_rank] == ["blocks.6.0.conv_dw"]


def test_an_expression_that_matches_nothing_is_refused_with_examples_of_module_paths() -> None:
    targets = load_backbone("resnet10t", "random:0").targets

    with pytest.raises(TrainingError, match=r"'transformer' with method lora matches nothing in resnet10t.*layer"):
        select_targets("resnet10t", targets, "lora", "transformer")
    with pytest.raises(TrainingError, match="not a regular expression"):
        select_targets("resnet10t", targets, "lora", "(")


def test_head_alone_trains_no_backbone_tensor() -> None:
    chosen = select_targets("resnet34", targets_of("resnet34"), "head")

    assert chosen.low_rank == chosen.additive == ()


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("magic", "expected lora"),
        ("lora+lora", "each part once"),
        ("lora+lora-tucker", "one of lora"),
        ("dora+lora", "one of lora"),
        ("head+norm", "leave"),
    ],
)
def test_unknown_and_contradictory_methods_are_refused(method: str, reason: str) -> None:
    with pytest.raises(TrainingError, match=reason):
        parse_method(method)
