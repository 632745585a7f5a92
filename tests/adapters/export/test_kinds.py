"""Every kind of delta that an adapter file may hold leaves exactly, or is refused with a format that holds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor

from lensmount_adapters import Adapter, Backbone, admit
from lensmount_adapters.errors import ExportError
from lensmount_adapters.export.export import export_adapter

peft = pytest.importorskip("peft")
lycoris = pytest.importorskip("lycoris")

QKV, TOKEN = "blocks.0.attn.qkv", "cls_token"


@pytest.fixture(scope="module")
def backbone(small: Any) -> Backbone:
    made: Backbone = small("test_vit")
    return made


@pytest.fixture
def drawn(backbone: Backbone, draw_adapter: Any) -> Any:
    """`drawn({name: tensor}, {path: factors})`: an admitted adapter of these tensors, with a linear head."""

    def make(tensors: dict[str, Tensor], modules: dict[str, Any] | None = None) -> Adapter:
        parts = draw_adapter(backbone, "head")
        parts.manifest |= {"schema_version": 2, "method": "lora", "modules": modules or {}}
        parts.tensors |= tensors
        return admit(parts.dump(), backbone)

    return make


def random(backbone: Backbone, name: str, scale: float = 0.3) -> Tensor:
    base = backbone.tensors[name]
    noise = torch.randn(base.shape, generator=torch.Generator().manual_seed(1))
    drawn: Tensor = scale * noise * base.float().norm() / noise.norm()
    return drawn


def of_kind(kind: str, backbone: Backbone) -> tuple[dict[str, Tensor], dict[str, Any]]:
    outputs, inputs = backbone.tensors[f"{QKV}.weight"].shape
    draw = torch.Generator().manual_seed(2)
    factors = {
        f"{QKV}.lora_A.weight": torch.randn(3, inputs, generator=draw) / 8,
        f"{QKV}.lora_B.weight": torch.randn(outputs, 3, generator=draw) / 8,
    }
    scale = {f"{QKV}.weight.row_scale": torch.rand(outputs, generator=draw) + 0.5}
    match kind:
        case "full delta of a matrix":
            return {f"{QKV}.weight.delta": random(backbone, f"{QKV}.weight")}, {}
        case "factors between scales":
            columns = {f"{QKV}.weight.column_scale": torch.rand(inputs, generator=draw) + 0.5}
            return factors | scale | columns, {QKV: {"rank": 3, "alpha": 2.0}}
        case "scale alone, and a bias":
            return scale | {f"{QKV}.bias.delta": torch.randn(outputs, generator=draw)}, {}
        case "factors and a bias":
            bias = {f"{QKV}.bias.delta": torch.randn(outputs, generator=draw)}
            return factors | bias, {QKV: {"rank": 3, "alpha": 2.0}}
        case "factors with a negative alpha":
            return factors, {QKV: {"rank": 3, "alpha": -2.0}}
        case "factors with alpha zero":
            return factors | {f"{QKV}.bias.delta": torch.ones(outputs)}, {QKV: {"rank": 3, "alpha": 0.0}}
        case "token":
            return {f"{TOKEN}.delta": 0.9 * torch.randn(backbone.tensors[TOKEN].shape, generator=draw)}, {}
        case _:
            raise AssertionError(kind)


KINDS = (
    "full delta of a matrix",
    "factors between scales",
    "scale alone, and a bias",
    "factors and a bias",
    "factors with a negative alpha",
    "factors with alpha zero",
    "token",
)


def logits_of(to: str, folder: Path, adapter: Adapter, base: Any, x: Tensor) -> Tensor:
    """What the format's own library computes."""
    with torch.no_grad():
        if to == "timm":
            model: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        elif to == "peft":
            model = peft.PeftModel.from_pretrained(base(2), folder).eval()
        else:
            features = base(0)
            path = folder / f"{adapter.manifest.name}.safetensors"
            lycoris.create_lycoris_from_weights(1.0, str(path), features)[0].merge_to(1.0)
            head = safetensors.torch.load_file(folder / "head.safetensors")
            return torch.nn.functional.linear(features(x), **head)
        logits: Tensor = model(x)
        return logits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("to", ["timm", "peft", "lycoris"])
def test_the_logits_are_the_same(
    to: str,
    kind: str,
    backbone: Backbone,
    drawn: Any,
    tmp_path: Path,
    images: Any,
    served: Any,
    error_of: Any,
    base_of: Any,
) -> None:
    adapter: Adapter = drawn(*of_kind(kind, backbone))
    x = images(adapter)
    if (to, kind) == ("lycoris", "token"):
        with pytest.raises(ExportError, match=r"cls_token \(parameter\).*Fix: export to timm"):
            export_adapter(adapter, backbone, to, tmp_path / "out")
        to = "timm"  # the advice

    export_adapter(adapter, backbone, to, tmp_path / "out")

    found = logits_of(to, tmp_path / "out", adapter, lambda classes: base_of(backbone, classes), x)
    expected = served(adapter, backbone, x)
    assert error_of(found, expected) < 1e-5
    with torch.no_grad():
        bare = torch.nn.functional.linear(backbone.module(x), *adapter.head.state_dict().values())
    assert error_of(bare, expected) > 1e-3  # the delta counts
