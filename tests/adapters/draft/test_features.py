from __future__ import annotations

import torch

from lensmount_adapters import load_backbone
from lensmount_adapters.draft.features import feature_adapter, rule_of
from lensmount_adapters.swap.exact import ExactSwapper
from lensmount_adapters.training.config import TrainingConfig
from lensmount_adapters.training.training_data import preprocessing_of


def test_the_feature_adapter_answers_with_the_features() -> None:
    backbone = load_backbone("test_resnet", "random:0")
    rule = rule_of(backbone)
    pixels = torch.rand(2, 3, *rule.size, generator=torch.Generator().manual_seed(0))
    swapper = ExactSwapper(backbone)
    swapper.mount(feature_adapter(backbone, rule))
    assert torch.equal(feature_adapter(backbone, rule).image_scores(backbone, pixels), backbone.features(pixels))


def test_images_are_prepared_as_training_does_by_default(tmp_path: object) -> None:
    backbone = load_backbone("test_resnet", "random:0")
    config = TrainingConfig(tmp_path, "x", tmp_path, backbone="test_resnet")  # type: ignore[arg-type]  # not read
    assert rule_of(backbone) == preprocessing_of(config, backbone)
