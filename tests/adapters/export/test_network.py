"""The exported network's outputs are the server's scores, and the logits behind them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lensmount_adapters import Adapter, Backbone, ExactSwapper, load_backbone
from lensmount_adapters.export.network import Network


@pytest.mark.parametrize("orientations", [1, 2, 4, 8])
def test_logits_and_scores_are_those_of_the_mounted_adapter(
    orientations: int, small: Any, draw_on: Any, images: Any, served: Any, error_of: Any
) -> None:
    backbone: Backbone = small("test_resnet")
    adapter: Adapter = draw_on(backbone, preprocessing={"orientations": orientations})
    x = images(adapter)

    with torch.no_grad():
        logits, scores = Network(adapter, backbone)(x)

    assert error_of(logits, served(adapter, backbone, x)) < 1e-5
    swapper = ExactSwapper(backbone)
    swapper.mount(adapter)
    assert error_of(scores, adapter.image_scores(backbone, x)) < 1e-5
    swapper.unmount()


def test_a_segmentation_gives_a_map_per_label(draw_adapter: Any, images: Any, error_of: Any) -> None:
    from lensmount_adapters import admit

    backbone = load_backbone("monai_basic_unet", "random:0")
    parts = draw_adapter(backbone, "head", labels=("nuclei",))
    bias = next(target for target in backbone.targets.values() if target.name.endswith("bias"))
    parts.tensors[f"{bias.name}.delta"] = torch.ones(bias.shape)
    parts.manifest["method"] = "bias"
    parts.manifest["head"] = {"kind": "segmentation", "activation": "sigmoid", "temperature": 2.0}
    parts.manifest["preprocessing"] |= {"size": [64, 64], "resize": "squash", "orientations": 4}
    weight = parts.tensors["head.weight"]
    parts.tensors["head.weight"] = weight[..., None, None].contiguous()
    adapter = admit(parts.dump(), backbone)
    x = images(adapter)

    with torch.no_grad():
        _, scores = Network(adapter, backbone)(x)

    swapper = ExactSwapper(backbone)
    swapper.mount(adapter)
    assert scores.shape == (2, 1, 64, 64)
    assert error_of(scores, adapter.image_scores(backbone, x)) < 1e-5
    swapper.unmount()
