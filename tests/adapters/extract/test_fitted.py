"""A checkpoint's names, shapes and classifier against a backbone's."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import timm
import torch
from tests.adapters.extract.tuned_networks import tuned
from torch import Tensor

from lensmount_adapters import Backbone, load_backbone
from lensmount_adapters.errors import AdapterError, AdapterInvalid
from lensmount_adapters.extract.checkpoint import Checkpoint
from lensmount_adapters.extract.fitted import fit

Change = Callable[[dict[str, Tensor]], dict[str, Tensor]]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("test_resnet", "random:0")


@pytest.fixture(scope="module")
def state(backbone: Backbone) -> dict[str, Tensor]:
    return dict(tuned(backbone).state_dict())


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "_orig_mod.", "model.", "timm_model.", "backbone.", "module._orig_mod.model.", "ema_model.module."],
)
def test_prefixes_of_training_tools_are_left_out_and_named(
    backbone: Backbone, state: dict[str, Tensor], prefix: str
) -> None:
    found = fit(Checkpoint("a", {f"{prefix}{name}": tensor for name, tensor in state.items()}), backbone)

    assert found.weights.keys() == backbone.tensors.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in found.weights.items())
    assert torch.equal(found.head_weight, state["fc.weight"])
    assert torch.equal(found.head_bias, state["fc.bias"])
    said = (f"{prefix!r} in front of names was left out",) if prefix else ()
    assert found.notes == (*said, "the classifier is fc")


def as_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm's ViT in the names of transformers 4."""
    names = {
        "attn.proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
    }
    found = {}
    for name, tensor in state.items():
        if match := re.fullmatch(r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)", name):
            for part, rows in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                found[f"vit.encoder.layer.{match[1]}.attention.attention.{part}.{match[2]}"] = rows
        elif match := re.fullmatch(r"blocks\.(\d+)\.(.+)\.(weight|bias)", name):
            found[f"vit.encoder.layer.{match[1]}.{names[match[2]]}.{match[3]}"] = tensor
        else:
            name = name.replace("patch_embed.proj", "vit.embeddings.patch_embeddings.projection")
            name = name.replace("cls_token", "vit.embeddings.cls_token")
            name = name.replace("pos_embed", "vit.embeddings.position_embeddings")
            found[re.sub("^head", "classifier", re.sub("^norm", "vit.layernorm", name))] = tensor
    return found


def test_a_network_of_transformers_is_read_in_timm_s_names() -> None:
    vit = load_backbone("test_vit", "random:0")
    state = dict(tuned(vit).state_dict())

    found = fit(Checkpoint("a", as_transformers(state)), vit)

    assert found.weights.keys() == vit.tensors.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in found.weights.items())
    assert torch.equal(found.head_weight, state["head.weight"])
    assert any(note.startswith("names of another library are read as timm's") for note in found.notes)


@pytest.mark.parametrize("shape", [(64, 32), (64,), ()], ids=str)
def test_queries_and_keys_of_two_sizes_are_refused(shape: tuple[int, ...]) -> None:
    vit = load_backbone("test_vit", "random:0")
    state = as_transformers(dict(tuned(vit).state_dict()))
    state["vit.encoder.layer.0.attention.attention.key.weight"] = torch.ones(shape)

    with pytest.raises(AdapterInvalid, match=r"blocks\.0\.attn\.qkv\.weight: found parts of shapes"):
        fit(Checkpoint("a", state), vit)


@pytest.mark.parametrize("name", ["head", "classifier", "head.fc", "fc.1", "my_classifier"])
def test_the_one_linear_layer_that_is_left_is_the_classifier(
    backbone: Backbone, state: dict[str, Tensor], name: str
) -> None:
    renamed = {key.replace("fc.", f"{name}.") if key.startswith("fc.") else key: t for key, t in state.items()}
    del renamed[f"{name}.bias"]

    found = fit(Checkpoint("a", renamed), backbone)

    assert found.notes[-1] == f"the classifier is {name}"
    assert torch.equal(found.head_bias, torch.zeros(3))


def without(*names: str) -> Change:
    return lambda state: {name: tensor for name, tensor in state.items() if name not in names}


def with_(**tensors: Tensor) -> Change:
    return lambda state: {**state, **{name.replace("__", "."): tensor for name, tensor in tensors.items()}}


REFUSED: dict[str, tuple[Change, str]] = {
    "no classifier": (without("fc.weight", "fc.bias"), "expected its classifier as well"),
    "no weight of the classifier": (without("fc.weight"), "found fc.bias behind test_resnet"),
    "a missing tensor": (without("layer1.0.conv1.weight"), "found no layer1.0.conv1.weight, expected all"),
    "two classifiers": (with_(aux__weight=torch.ones(2, 64), aux__bias=torch.ones(2)), "one linear classifier"),
    "a norm before the classifier": (with_(extra__bn__running_mean=torch.ones(2)), "one linear classifier"),
    "a classifier of other features": (
        with_(fc__weight=torch.ones(3, 7)),
        r"found 7 inputs, expected \d+, the features",
    ),
    "other kernels": (with_(conv1__0__weight=torch.ones(1, 1, 1, 1)), "expected .* for test_resnet. Fix: --base NAME"),
    "two names for one tensor": (with_(module__bn1__bias=torch.zeros(1)), "two tensors that stand for bn1.bias"),
    "not finite": (with_(fc__bias=torch.full((3,), torch.inf)), "fc.bias: found NaN or infinity"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_another_network_is_refused_with_what_differs(backbone: Backbone, state: dict[str, Tensor], case: str) -> None:
    change, words = REFUSED[case]

    with pytest.raises(AdapterError, match=words) as refusal:
        fit(Checkpoint("a.pth", change(state)), backbone)

    assert "Fix: " in str(refusal.value)


def test_images_of_other_channels_are_named_as_the_reason(backbone: Backbone) -> None:
    state = timm.create_model("test_resnet", num_classes=3, in_chans=1).state_dict()

    with pytest.raises(AdapterInvalid, match="trained on images of 1 channels, and test_resnet takes 3"):
        fit(Checkpoint("a", state), backbone)


def test_images_of_another_size_are_named_as_the_reason_and_the_advice_works() -> None:
    state = timm.create_model("test_vit", num_classes=3, img_size=96).state_dict()

    with pytest.raises(AdapterInvalid, match=r"images of another size\. Fix: --base test_vit@SIZE"):
        fit(Checkpoint("a", state), load_backbone("test_vit", "random:0"))

    assert fit(Checkpoint("a", state), load_backbone("test_vit@96", "random:0")).weights


def test_the_name_that_the_checkpoint_gives_itself_is_the_advice(backbone: Backbone) -> None:
    state = timm.create_model("test_vit", num_classes=3).state_dict()

    with pytest.raises(AdapterInvalid, match=r"it says arch 'test_vit'.*Fix: --base test_vit"):
        fit(Checkpoint("a", state, arch="test_vit"), backbone)


def test_mounting_gives_the_network_s_logits_and_restores_the_backbone(
    backbone: Backbone, state: dict[str, Tensor]
) -> None:
    network = timm.create_model("test_resnet", num_classes=3).eval()
    network.load_state_dict(state)
    images = torch.randn(2, *backbone.preprocessing.input_shape)

    with fit(Checkpoint("a", state), backbone).mounted(backbone) as logits:
        found = logits(images)

    with torch.no_grad():
        assert torch.allclose(found, network(images), rtol=1e-5, atol=1e-6)
    assert backbone.changed() == []
