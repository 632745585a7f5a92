"""Names of other tools: prefixes, wrappers, and the same network in torchvision and transformers."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import timm
import torch
import torchvision
import transformers
from tests.adapters.foreign.peft_networks import CLOSE, backbone_of, network, randomise

from lensmount_adapters import Backbone, ExactSwapper, Preprocessing, admit, load_backbone
from lensmount_adapters.backbone.clip import ClipImageTower
from lensmount_adapters.foreign.convert import convert
from lensmount_adapters.foreign.names import HEAD, Names, Place, suggestion


@pytest.fixture(scope="module")
def names() -> Names:
    return Names.of(backbone_of(network()))


PREFIXED = [
    "up.weight",
    "base_model.model.up.weight",
    "_orig_mod.up.weight",
    "module.up.weight",
    "model.up.weight",
    "timm_model.up.weight",
    "state_dict.module.up.weight",
    "module._orig_mod.base_model.model.up.weight",
    "model.backbone.up.weight",
    "ema_model.net.up.weight",
    "_fsdp_wrapped_module.up.weight",
]


@pytest.mark.parametrize("name", PREFIXED)
def test_known_prefixes_are_stripped_in_any_order(name: str, names: Names) -> None:
    place = names.place(name)

    assert isinstance(place, Place)
    assert (place.path, place.part) == ("up", "weight")


WRAPPED = {
    "base_model.model.up.lora_A.default.weight": ("up", "lora_A.weight"),
    "base_model.model.up.lora_A.oak.weight": ("up", "lora_A.weight"),
    "base_model.model.up.lora_A.weight": ("up", "lora_A.weight"),
    "base_model.model.up.hada_w1_a.default": ("up", "hada_w1_a"),
    "base_model.model.up.lora_magnitude_vector.default.weight": ("up", "lora_magnitude_vector"),
    "base_model.model.up.base_layer.bias": ("up", "bias"),
    "norm.ln_tuning_layers.default.running_mean": ("norm", "running_mean"),
    "fc.modules_to_save.default.weight": (HEAD, "weight"),
    "classifier.bias": (HEAD, "bias"),
    "base_model.vera_A.default": ("", "vera_A"),
    "base_model.vblora_vector_bank": ("", "vblora_vector_bank"),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_wrappers_of_peft_and_the_name_of_the_adapter_are_taken_out(name: str, names: Names) -> None:
    place = names.place(name)

    assert isinstance(place, Place)
    assert (place.path, place.part) == WRAPPED[name]


def test_what_names_no_module_is_said_with_the_nearest_module(names: Names) -> None:
    assert names.place("base_model.model.upp.lora_A.weight") == "no module of this backbone. Did you mean 'up'?"
    assert names.place("entirely.different") == "no module of this backbone."


def test_a_name_that_can_be_read_in_two_ways_is_refused() -> None:
    two = Names(frozenset({"model.up", "up"}), ("fc",))

    assert two.place("model.up.weight") == "two modules: model.up and up"
    assert isinstance(two.place("up.weight"), Place)


def test_all_unknown_names_are_listed_up_to_a_limit() -> None:
    text = suggestion({f"layer{number}.weight": "no module" for number in range(20)})

    assert text.count("no module") == 12
    assert text.endswith("and 8 others")


def _logits(backbone: Backbone, data: bytes, images: torch.Tensor) -> torch.Tensor:
    adapter = admit(data, backbone)
    ExactSwapper(backbone).mount(adapter)
    return adapter.logits(backbone.features(images))


def _assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert (found - expected).norm() < CLOSE * expected.norm()


def _trained(net: Any, config: Any, folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT reads names that transformers will drop
        model: Any = peft.get_peft_model(copy.deepcopy(net), config)
    randomise(model, 0.05)
    model.eval().save_pretrained(folder)
    return model


def _vit_of_timm() -> Any:
    """A ViT whose width, depth and heads fit transformers' and torchvision's below."""
    torch.manual_seed(0)
    return timm.models.VisionTransformer(
        img_size=32, patch_size=16, embed_dim=16, depth=2, num_heads=2, mlp_ratio=2, num_classes=0
    ).eval()


def _backbone(net: Any) -> Backbone:
    net.pretrained_cfg = {"classifier": "head", "input_size": (3, 32, 32)}
    rule = Preprocessing(size=(32, 32), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    return Backbone("vit", net, rule, torch.float32)


def _copy(theirs: Any, ours: dict[str, torch.Tensor], pairs: dict[str, str]) -> None:
    """Give another library's network the weights of timm's, by pairs of names with {n} for the block."""
    state = theirs.state_dict()
    with torch.no_grad():
        for their_name, our_name in pairs.items():
            for block in range(2):
                for kind in ("weight", "bias"):
                    name = their_name.format(n=block, kind=kind)
                    state[name].copy_(ours[our_name.format(n=block, kind=kind)].reshape(state[name].shape))


VARIANTS: dict[str, dict[str, Any]] = {
    "LoRA": {"r": 3, "lora_alpha": 5},
    "LoRA on q and v": {"r": 3, "only": ("q_proj", "v_proj", "fc1")},
    "DoRA": {"r": 3, "use_dora": True},
}


@pytest.mark.parametrize("variant", [*VARIANTS, "LoKr"])
def test_a_vit_of_transformers_gives_its_own_logits_on_timm_s(variant: str, tmp_path: Path) -> None:
    ours = _vit_of_timm()
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=16,
        num_labels=3, layer_norm_eps=1e-6,
    )  # fmt: skip
    theirs = transformers.ViTForImageClassification(config).eval()
    state, weights = theirs.state_dict(), ours.state_dict()
    layer, block = "vit.layers.{n}.", "blocks.{n}."
    with torch.no_grad():
        for number in range(2):
            for kind in ("weight", "bias"):
                thirds = weights[f"blocks.{number}.attn.qkv.{kind}"].chunk(3)
                for letter, third in zip("qkv", thirds, strict=True):
                    state[f"vit.layers.{number}.attention.{letter}_proj.{kind}"].copy_(third)
        state["vit.embeddings.cls_token"].copy_(weights["cls_token"])
        state["vit.embeddings.position_embeddings"].copy_(weights["pos_embed"])
    pairs = {
        "attention.o_proj": "attn.proj",
        "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
    }
    _copy(theirs, weights, {f"{layer}{a}.{{kind}}": f"{block}{b}.{{kind}}" for a, b in pairs.items()})
    _copy(
        theirs,
        weights,
        {
            "vit.layernorm.{kind}": "norm.{kind}",
            "vit.embeddings.patch_embeddings.projection.{kind}": "patch_embed.proj.{kind}",
        },
    )
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"]
    save = ["classifier", "layernorm_before"]
    if variant == "LoKr":
        adapted: Any = peft.LoKrConfig(r=2, target_modules=targets, modules_to_save=save)
    else:
        options = dict(VARIANTS[variant])
        targets = list(options.pop("only", targets))
        adapted = peft.LoraConfig(target_modules=targets, modules_to_save=save, **options)
    model = _trained(theirs, adapted, tmp_path)
    backbone = _backbone(ours)
    images = torch.randn(2, 3, 32, 32)

    converted = convert(tmp_path, backbone, name="x")

    with torch.no_grad():
        _assert_same(_logits(backbone, converted.data, images), model(images).logits)
    assert any("have other names here" in note for note in converted.report.notes)


def test_the_older_names_of_transformers_are_the_same_modules() -> None:
    names = Names.of(_backbone(_vit_of_timm()))
    pairs = {
        "vit.encoder.layer.1.attention.attention.key.lora_A.weight": ("blocks.1.attn.qkv", 1),
        "vit.encoder.layer.0.attention.output.dense.lora_A.weight": ("blocks.0.attn.proj", None),
        "vit.encoder.layer.0.intermediate.dense.lora_A.weight": ("blocks.0.mlp.fc1", None),
        "vit.encoder.layer.0.output.dense.lora_A.weight": ("blocks.0.mlp.fc2", None),
        "vit.encoder.layer.0.layernorm_after.weight": ("blocks.0.norm2", None),
    }

    for name, expected in pairs.items():
        place = names.place(f"base_model.model.{name}")
        assert isinstance(place, Place)
        assert (place.path, place.third) == expected


def test_a_vit_of_torchvision_gives_its_own_logits_on_timm_s(tmp_path: Path) -> None:
    ours = _vit_of_timm()
    theirs = torchvision.models.VisionTransformer(32, 16, 2, 2, 16, 32, num_classes=3).eval()
    weights, state = ours.state_dict(), theirs.state_dict()
    block = "encoder.layers.encoder_layer_{n}."
    pairs = {
        f"{block}self_attention.in_proj_{{kind}}": "blocks.{n}.attn.qkv.{kind}",
        f"{block}self_attention.out_proj.{{kind}}": "blocks.{n}.attn.proj.{kind}",
        f"{block}mlp.0.{{kind}}": "blocks.{n}.mlp.fc1.{kind}",
        f"{block}mlp.3.{{kind}}": "blocks.{n}.mlp.fc2.{kind}",
        f"{block}ln_1.{{kind}}": "blocks.{n}.norm1.{kind}",
        f"{block}ln_2.{{kind}}": "blocks.{n}.norm2.{kind}",
        "encoder.ln.{kind}": "norm.{kind}",
        "conv_proj.{kind}": "patch_embed.proj.{kind}",
    }
    _copy(theirs, weights, pairs)
    with torch.no_grad():
        state["class_token"].copy_(weights["cls_token"])
        state["encoder.pos_embedding"].copy_(weights["pos_embed"])
    config = peft.LoraConfig(
        r=3, target_modules=["self_attention", "mlp.0", "mlp.3"], modules_to_save=["heads.head", "ln_1"]
    )
    model = _trained(theirs, config, tmp_path)
    backbone = _backbone(ours)
    images = torch.randn(2, 3, 32, 32)

    data = convert(tmp_path, backbone, name="x").data

    with torch.no_grad():
        _assert_same(_logits(backbone, data, images), model(images))


def test_a_clip_of_transformers_5_gets_the_prefix_that_the_backbone_has(tmp_path: Path) -> None:
    config = transformers.CLIPVisionConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=16
    )
    torch.manual_seed(0)
    tower = transformers.CLIPVisionModel(config).eval()
    backbone = Backbone("clip", ClipImageTower(copy.deepcopy(tower), None), load_backbone_rule(), torch.float32)
    adapted = peft.LoraConfig(r=3, target_modules=["q_proj", "v_proj", "fc1"], bias="all")
    model = _trained(tower, adapted, tmp_path)
    torch.save({"weight": torch.eye(16), "bias": torch.zeros(16)}, tmp_path / "head.pth")
    images = torch.randn(2, 3, 32, 32)

    data = convert(tmp_path, backbone, name="x").data

    with torch.no_grad():
        expected = model(images).pooler_output
    _assert_same(_logits(backbone, data, images), expected)


def load_backbone_rule() -> Preprocessing:
    return Preprocessing(size=(32, 32), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def test_a_wrapper_of_transformers_around_timm_has_timm_s_names() -> None:
    names = Names.of(load_backbone("test_resnet", "random:0"))

    place = names.place("base_model.model.timm_model.layer1.0.conv1.lora_A.weight")

    assert isinstance(place, Place)
    assert place.path == "layer1.0.conv1"
