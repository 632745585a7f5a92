"""CLIP's image half as a backbone: the features of transformers' own model, its image rule, and its errors."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import safetensors.torch
import torch
import transformers
from PIL import Image
from torch.nn import functional as F

from lensmount_adapters import Backbone, Preprocessing, load_backbone
from lensmount_adapters.backbone.clip import random_image_tower
from lensmount_adapters.delta.initial import fresh_low_rank
from lensmount_adapters.delta.kinds import LowRank
from lensmount_adapters.delta.targets import select_targets
from lensmount_adapters.errors import BackboneError, WeightsMismatch
from lensmount_adapters.graph.segments import Segments
from lensmount_adapters.inputs.images import preprocess


@pytest.fixture(scope="module")
def folder(make_clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def backbone(folder: Path) -> Backbone:
    return load_backbone("clip", folder)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (40, 72)])
def test_features_are_the_pooled_output_of_transformers_own_model(
    backbone: Backbone, folder: Path, size: tuple[int, int]
) -> None:
    model = transformers.CLIPVisionModel.from_pretrained(folder).eval()
    images = drawn(2, 3, *size)

    with torch.no_grad():
        expected = model(images, interpolate_pos_encoding=True).pooler_output

    assert torch.allclose(backbone.features(images), expected, atol=1e-6)
    assert backbone.feature_dim == 48
    assert not backbone.fixed_size


def test_images_go_through_the_folder_s_own_rule(backbone: Backbone, folder: Path) -> None:
    image = Image.fromarray((drawn(36, 36, 3).sigmoid() * 255).byte().numpy())

    expected = transformers.CLIPImageProcessor.from_pretrained(folder)(image, return_tensors="pt")["pixel_values"][0]

    rule = backbone.preprocessing
    assert isinstance(rule, Preprocessing)
    assert (rule.size, rule.interpolation) == ((32, 32), "bilinear")
    assert rule.crop_fraction == pytest.approx(32 / 36)
    assert torch.allclose(preprocess(image, rule), expected, atol=1e-5)


def test_a_folder_without_a_rule_gets_the_rule_of_openai(folder: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(folder, tmp_path / "bare", ignore=shutil.ignore_patterns("preprocessor_config.json"))

    rule = load_backbone("clip", bare).preprocessing

    assert rule.size == (32, 32)
    assert list(rule.mean) == transformers.image_utils.OPENAI_CLIP_MEAN


def test_it_is_cut_between_its_layers_and_computes_the_same(backbone: Backbone) -> None:
    images = drawn(2, 3, 32, 32)
    chosen = [t.name for t in select_targets("clip", backbone.targets, "lora").low_rank if ".layers.1." in t.name]

    halves = Segments(backbone.module).halves(chosen)

    assert [name.rpartition(".")[0][-6:] for name in chosen] == ["k_proj", "v_proj", "q_proj"]
    assert halves.trunk is not None
    with torch.no_grad():
        assert torch.equal(halves.branch(halves.trunk(images)), backbone.module(images))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks transformers for it
def test_low_rank_factors_on_q_k_and_v_match_peft(backbone: Backbone, folder: Path) -> None:
    peft = pytest.importorskip("peft")
    chosen = select_targets("clip", backbone.targets, "lora").low_rank
    generator = torch.Generator().manual_seed(3)
    model = transformers.CLIPVisionModel.from_pretrained(folder)
    other = peft.get_peft_model(
        model, peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj"])
    ).eval()
    for target in chosen:
        delta = fresh_low_rank(target, 4, 2.0, generator)
        assert isinstance(delta, LowRank)
        delta.B.normal_(0, 0.3, generator=generator)
        layer = other.base_model.model.get_submodule(target.module.removeprefix("vision_model."))
        layer.lora_A["default"].weight.data, layer.lora_B["default"].weight.data = delta.A, delta.B
        delta.write(backbone.base([target.name])[target.name], backbone.tensors[target.name])
    images = drawn(2, 3, 32, 32)

    with torch.no_grad():
        expected = other.double()(images.double()).pooler_output

    assert len(chosen) == 9
    assert (backbone.features(images) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_seed_gives_the_vit_b_32_of_openai_untrained() -> None:
    tower = random_image_tower(0)

    assert sum(p.numel() for p in tower.parameters()) == 87_456_000
    assert tower.pretrained_cfg["input_size"] == (3, 224, 224)


def test_a_word_is_not_a_seed() -> None:
    with pytest.raises(BackboneError, match="expected a whole number as in random:0"):
        load_backbone("clip", "random:x")


@pytest.mark.parametrize("name", ["plip", "a/b/c", "../etc", "", "vinid/"])
def test_a_repository_is_an_owner_and_a_name(name: str) -> None:
    with pytest.raises(BackboneError, match="expected hub:OWNER/NAME"):
        load_backbone("clip", f"hub:{name}")


def test_an_unreachable_hub_is_reported_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BackboneError, match=r"vinid/plip is not in the local cache .*Fix: .*--weights FOLDER"):
        load_backbone("clip", "hub:vinid/plip")


def test_files_in_the_hub_s_cache_need_no_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(folder))
    assert load_backbone("clip", "hub:vinid/plip").fingerprint == load_backbone("clip", folder).fingerprint


def test_a_folder_without_a_clip_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"found no CLIP in .*Fix: --weights hub:"):
        load_backbone("clip", tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsMismatch, match="found no CLIP"):
        load_backbone("clip", tmp_path)
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"hello")
    with pytest.raises(WeightsMismatch, match="found no CLIP"):
        load_backbone("clip", broken)


def test_a_clip_with_a_missing_tensor_is_refused_and_not_filled_in(folder: Path, tmp_path: Path) -> None:
    short = shutil.copytree(folder, tmp_path / "short")
    tensors = safetensors.torch.load_file(short / "model.safetensors")
    del tensors["vision_model.encoder.layers.1.self_attn.q_proj.weight"]
    safetensors.torch.save_file(tensors, short / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(WeightsMismatch, match=r"found no tensor '.*layers\.1\.self_attn\.q_proj\.weight'"):
        load_backbone("clip", short)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(BackboneError, match=r"Fix: pip install 'lensmount\[clip\]'"):
        load_backbone("clip", "random:0")


def test_position_embeddings_at_another_size_match_torch_s_interpolation(folder: Path) -> None:
    """The same network built for 64 pixels, with the embeddings resized by hand."""
    original = transformers.CLIPVisionModel.from_pretrained(folder)
    config = transformers.CLIPVisionConfig(**{**original.config.to_dict(), "image_size": 64})
    large, state = transformers.CLIPVisionModel(config).eval(), original.state_dict()
    positions = state["embeddings.position_embedding.weight"]  # [1 + 4 * 4, width]
    square = positions[1:].T.reshape(1, -1, 4, 4)
    resized = F.interpolate(square, size=(8, 8), mode="bicubic", align_corners=False)
    state["embeddings.position_embedding.weight"] = torch.cat([positions[:1], resized.flatten(2)[0].T])
    large.load_state_dict(state)
    images = drawn(2, 3, 64, 64)

    with torch.no_grad():
        expected = large(images).pooler_output

    assert torch.allclose(load_backbone("clip", folder).features(images), expected, atol=1e-6)
