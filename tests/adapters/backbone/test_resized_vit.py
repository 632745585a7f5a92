"""Vision transformers at another size: `NAME@SIDE` resizes the position embeddings; factors on the fused qkv."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch.nn import functional as F

from lensmount_adapters import load_backbone
from lensmount_adapters.delta.initial import fresh_low_rank
from lensmount_adapters.delta.kinds import LowRank
from lensmount_adapters.delta.targets import select_targets
from lensmount_adapters.errors import BackboneError


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "side", "grids"), [("test_vit", 224, (10, 14)), ("test_vit", 96, (10, 6))])
def test_position_embeddings_match_torch_s_interpolation(name: str, side: int, grids: tuple[int, int]) -> None:
    original, other = load_backbone(name, "random:0"), load_backbone(f"{name}@{side}", "random:0")

    before, after = original.tensors["pos_embed"], other.tensors["pos_embed"]  # [1, 1 + grid * grid, width]
    square = before[:, 1:].reshape(1, grids[0], grids[0], -1).permute(0, 3, 1, 2)
    wanted = F.interpolate(square, size=(grids[1], grids[1]), mode="bicubic", antialias=True, align_corners=False)
    assert torch.equal(after[:, :1], before[:, :1])
    assert torch.allclose(after[:, 1:], wanted.permute(0, 2, 3, 1).flatten(1, 2), atol=1e-6)
    assert all(torch.equal(original.tensors[n], t) for n, t in other.tensors.items() if n != "pos_embed")
    assert other.preprocessing.size == (side, side)
    assert other.name == f"{name}@{side}"
    assert other.fingerprint != original.fingerprint


def test_features_at_448_pixels_are_those_of_the_same_network_built_for_448_pixels() -> None:
    """This is timm's way: the weights of 160 pixels, loaded into a network that was made for 448."""
    backbone = load_backbone("test_vit@448", "random:0")
    network = timm.create_model("test_vit", num_classes=0, img_size=448).eval()
    network.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(_state("random:0"), network))
    images = drawn(1, 3, 448, 448)

    with torch.no_grad():
        assert torch.allclose(backbone.features(images), network(images), atol=1e-5)


def _state(weights: str) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in load_backbone("test_vit", weights).module.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet10t@448", "it takes images of any size. Fix: --size 448"),
        ("clip@448", "Fix: --size 448"),
        ("test_vit@", "expected a size in pixels after @, such as test_vit@448"),
        ("test_vit@big", "expected a size in pixels after @"),
        ("test_vit@4480000", "expected a size in pixels after @"),
        ("test_wit@448", "found no timm model named"),
    ],
)
def test_an_invalid_size_and_a_network_that_takes_any_size_are_refused(name: str, message: str) -> None:
    with pytest.raises(BackboneError, match=message):
        load_backbone(name, "random:0")


def test_low_rank_factors_on_the_fused_qkv_match_peft() -> None:
    peft = pytest.importorskip("peft")
    backbone = load_backbone("test_vit", "random:0")
    chosen = select_targets("test_vit", backbone.targets, "lora").low_rank
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["qkv"])
    other = peft.get_peft_model(copy.deepcopy(backbone.module), config).eval()
    generator = torch.Generator().manual_seed(3)
    for target in chosen:
        delta = fresh_low_rank(target, 4, 2.0, generator)
        assert isinstance(delta, LowRank)
        delta.B.normal_(0, 0.3, generator=generator)
        layer = other.base_model.model.get_submodule(target.module)
        layer.lora_A["default"].weight.data, layer.lora_B["default"].weight.data = delta.A, delta.B
        delta.write(backbone.base([target.name])[target.name], backbone.tensors[target.name])
    images = drawn(2, 3, 160, 160)

    with torch.no_grad():
        wanted = other(images)

    assert [target.module for target in chosen] == [f"blocks.{i}.attn.qkv" for i in range(len(chosen))]
    assert (backbone.features(images) - wanted).abs().max() <= 1e-5 * wanted.abs().max()
