"""A LyCORIS file: LyCORIS merges it into the backbone's weights, and with the head it gives the same logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from lensmount_adapters import Adapter, Backbone
from lensmount_adapters.errors import ExportError
from lensmount_adapters.export.lycoris import Lycoris

lycoris = pytest.importorskip("lycoris")

ON = [
    *(("test_vit", method) for method in ("lora", "lora-tucker", "lora-shared", "bias", "norm", "head", "mixed")),
    *((name, method) for name in ("test_resnet", "test_efficientnet") for method in ("lora", "lora-tucker", "head")),
    ("test_efficientnet", "lora-shared"),
]


@pytest.mark.parametrize(("name", "method"), ON)
def test_lycoris_merges_it_to_the_same_logits(
    name: str, method: str, tmp_path: Path, small: Any, draw_on: Any, logits_error: Any, base_of: Any
) -> None:
    backbone: Backbone = small(name)
    adapter: Adapter = draw_on(backbone, method)

    Lycoris().write(adapter, backbone, tmp_path)

    model = base_of(backbone, 0)
    network, _ = lycoris.create_lycoris_from_weights(1.0, str(tmp_path / f"{method}-0.safetensors"), model)
    network.merge_to(1.0)
    head: dict[str, Tensor] = safetensors.torch.load_file(tmp_path / "head.safetensors")
    assert logits_error(lambda x: torch.nn.functional.linear(model(x), **head), adapter, backbone) < 1e-5


def test_factors_keep_the_names_and_the_alpha_of_kohya(tmp_path: Path, small: Any, draw_on: Any) -> None:
    backbone: Backbone = small("test_resnet")

    Lycoris().write(draw_on(backbone, "lora-tucker", modules=r"layer4\.0\.conv2"), backbone, tmp_path)

    tensors: dict[str, Tensor] = safetensors.torch.load_file(tmp_path / "lora-tucker-0.safetensors")
    parts = ("alpha", "lora_down.weight", "lora_mid.weight", "lora_up.weight")
    assert sorted(tensors) == [f"lycoris_layer4_0_conv2.{part}" for part in parts]
    assert float(tensors["lycoris_layer4_0_conv2.alpha"]) == 8.0


@pytest.mark.parametrize("method", ["norm", "statistics"])
def test_batch_norms_are_refused_with_a_format_that_holds_them(
    method: str, tmp_path: Path, small: Any, draw_on: Any
) -> None:
    backbone: Backbone = small("test_resnet")

    with pytest.raises(ExportError, match=r"batch norm.*Fix: export to timm"):
        Lycoris().write(draw_on(backbone, method), backbone, tmp_path)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("test_vit@128", "timm.create_model('test_vit', pretrained=True, num_classes=0, img_size=128).eval()"),
        ("clip", "lensmount_adapters.load_backbone('clip', ...).module.eval()"),
    ],
)
def test_the_readme_makes_the_backbone_s_network(
    name: str, call: str, tmp_path: Path, small: Any, draw_on: Any
) -> None:
    if name == "clip":
        pytest.importorskip("transformers")
    backbone: Backbone = small(name)

    Lycoris().write(draw_on(backbone, "head"), backbone, tmp_path)

    assert call in (tmp_path / "README.md").read_text()
