"""A merged network in timm's format: timm loads it by two ways, computes the same logits and the same input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor

from lensmount_adapters import Adapter, Backbone, ExactSwapper, Preprocessing, preprocess
from lensmount_adapters.errors import ExportError
from lensmount_adapters.export.timm import Timm

SMALL = ("test_resnet", "test_vit", "test_efficientnet")


@pytest.mark.parametrize("name", SMALL)
def test_timm_loads_the_file_and_the_folder_and_computes_the_same_logits(
    name: str, tmp_path: Path, small: Any, draw_on: Any, images: Any, served: Any, error_of: Any
) -> None:
    backbone: Backbone = small(name)
    adapter: Adapter = draw_on(backbone, labels=("a", "b", "c"))
    x = images(adapter)

    Timm().write(adapter, backbone, tmp_path)

    by_file = timm.create_model(name, num_classes=3, checkpoint_path=tmp_path / "model.safetensors").eval()
    by_folder = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    expected = served(adapter, backbone, x)
    with torch.no_grad():
        assert error_of(by_file(x), expected) < 1e-5
        assert error_of(by_folder(x), expected) < 1e-5
    assert by_folder.pretrained_cfg["label_names"] == ["a", "b", "c"]


@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_timm_s_own_transform_makes_the_input_of_the_rule(
    resize: str, tmp_path: Path, small: Any, draw_on: Any
) -> None:
    backbone: Backbone = small("test_resnet")
    rule = {"size": [96, 96], "resize": resize, "crop_fraction": 0.75, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    adapter: Adapter = draw_on(backbone, preprocessing=rule)
    smooth = np.linspace(0, 255, 128 * 128 * 3).reshape(128, 128, 3).astype(np.uint8)
    image = Image.fromarray(smooth)  # 128 is 96 / 0.75: timm's box has whole pixels

    notes = Timm().write(adapter, backbone, tmp_path)

    model = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    found = timm.data.create_transform(**timm.data.resolve_data_config(model=model))(image)
    assert isinstance(adapter.manifest.preprocessing, Preprocessing)
    expected = preprocess(image, adapter.manifest.preprocessing)
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) < (1e-6 if resize == "squash" else 2 / 255 / 0.4)
    assert ("rounding" in " ".join(notes)) == (resize == "crop")


@pytest.mark.parametrize(
    ("preprocessing", "found"),
    [({"resize": "pad"}, "black border"), ({"orientations": 8}, "averaged over 8 orientations")],
)
def test_what_timm_cannot_hold_is_refused_with_formats_that_can(
    preprocessing: dict[str, Any], found: str, tmp_path: Path, small: Any, draw_on: Any
) -> None:
    backbone: Backbone = small("test_resnet")

    with pytest.raises(ExportError, match=f"{found}.*Fix: export to onnx, openvino or torchscript"):
        Timm().write(draw_on(backbone, preprocessing=preprocessing), backbone, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_another_mounted_adapter_is_neither_seen_nor_disturbed(
    tmp_path: Path, small: Any, draw_on: Any, images: Any, served: Callable[..., Tensor], error_of: Any
) -> None:
    backbone: Backbone = small("test_resnet")
    adapter, other = draw_on(backbone, "lora"), draw_on(backbone, "mixed", seed=1)
    x = images(adapter)
    expected = served(adapter, backbone, x)
    swapper = ExactSwapper(backbone)
    swapper.mount(other)
    before = {name: tensor.clone() for name, tensor in backbone.tensors.items()}

    Timm().write(adapter, backbone, tmp_path)

    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.tensors.items())
    swapper.unmount()
    model = timm.create_model("test_resnet", num_classes=2, checkpoint_path=tmp_path / "model.safetensors").eval()
    with torch.no_grad():
        assert error_of(model(x), expected) < 1e-5
