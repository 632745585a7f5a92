"""Whole files of LyCORIS, written by LyCORIS for whole networks, and read with the backbone alone."""

from __future__ import annotations

import copy
import logging
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from lycoris import LycorisNetwork, create_lycoris
from tests.adapters.foreign.lycoris_layers import LAYERS, foreign
from torch import nn

from lensmount_adapters import Backbone, load_backbone
from lensmount_adapters.errors import AdapterError, AdapterUnsupported
from lensmount_adapters.foreign.lycoris import READS, is_lycoris, method_of, other_padding, read_lycoris
from lensmount_adapters.formulas.parts import merged

ALGORITHMS: dict[str, dict[str, Any]] = {
    "lora": {"linear_dim": 4, "linear_alpha": 3},
    "lora tucker": {"algo": "lora", "linear_dim": 2, "use_tucker": True},
    "lora with DoRA": {"algo": "lora", "linear_dim": 4, "dora_wd": True},
    "loha": {"linear_dim": 2},
    "lokr": {"linear_dim": 2, "factor": 4},
    "lokr with DoRA": {"algo": "lokr", "linear_dim": 2, "dora_wd": True, "wd_on_output": False},
    "full": {"train_norm": True},
    "diag-oft": {"linear_dim": 4, "constraint": 0.5, "rescaled": True},
    "ia3": {},
}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """LyCORIS logs each option, and keeps the last preset in its class."""
    logger = logging.getLogger("LyCORIS")
    level, kept = logger.level, dict(vars(LycorisNetwork))
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)
    LycorisNetwork.apply_preset({"lora_prefix": kept["LORA_PREFIX"]})


@pytest.fixture(scope="module", params=["test_resnet", "test_vit", "test_efficientnet"])
def backbone(request: pytest.FixtureRequest, randomised: Callable[[Backbone], Backbone]) -> Backbone:
    return randomised(load_backbone(request.param, "random:0"))


def write(network: nn.Module, path: Path, **options: Any) -> Any:
    """Put LyCORIS on the network, draw all its parameters, and save its file. Returns the live LyCORIS network."""
    torch.manual_seed(1)
    live = create_lycoris(network, 1.0, **{"algo": "lora", "warn_on_unmatched": False, **options})
    live.apply_to()
    with torch.no_grad():
        for parameter in live.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.03)
    live.save_weights(path, torch.float32, {"ss_network_dim": "4"})
    return live


def with_weights(backbone: Backbone, path: Path) -> nn.Module:
    """The backbone's network with the weights that the file asks for, computed in float64."""
    network = copy.deepcopy(backbone.module)
    state = network.state_dict()
    for module, read in read_lycoris(safetensors.torch.load_file(path), backbone).items():
        state[f"{module}.weight"].copy_(merged(read.deltas, state[f"{module}.weight"]))
        if "bias.delta" in read.deltas:
            state[f"{module}.bias"].add_(read.deltas["bias.delta"])
    return network


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_file_of_a_whole_network_gives_the_features_of_the_live_network(
    backbone: Backbone, algorithm: str, tmp_path: Path
) -> None:
    theirs = copy.deepcopy(backbone.module)
    options = {"algo": algorithm.partition(" ")[0], **ALGORITHMS[algorithm]}
    live = write(theirs, tmp_path / "file.safetensors", **options)
    ours = with_weights(backbone, tmp_path / "file.safetensors")
    images = torch.randn(2, *backbone.preprocessing.input_shape)

    with torch.no_grad():
        expected, found, base = theirs(images), ours(images), backbone.module(images)

    assert live.loras
    assert (expected - base).norm() > 1e-3 * base.norm()
    assert (found - expected).norm() / expected.norm() < 1e-5


def test_another_prefix_of_the_preset_is_read(tmp_path: Path) -> None:
    backbone = load_backbone("test_resnet", "random:0")
    LycorisNetwork.apply_preset({"lora_prefix": "my_tuner"})
    torch.manual_seed(0)
    live = LycorisNetwork(copy.deepcopy(backbone.module), lora_dim=2, alpha=1, warn_on_unmatched=False)
    live.apply_to()
    live.save_weights(tmp_path / "file.safetensors", torch.float16, {})

    names = safetensors.torch.load_file(tmp_path / "file.safetensors")

    assert all(name.startswith("my_tuner_") for name in names)
    assert len(read_lycoris(names, backbone)) == len(live.loras)


def test_the_method_of_each_module_is_told() -> None:
    backbone = load_backbone("test_resnet", "random:0")
    out, inputs, *_ = backbone.targets["layer1.0.conv1.weight"].shape
    tensors = {
        "lycoris_layer1_0_conv1.lora_up.weight": torch.ones(out, 2, 1, 1),
        "lycoris_layer1_0_conv1.lora_down.weight": torch.ones(2, inputs, 1, 1),
        "lycoris_layer1_0_conv1.lora_mid.weight": torch.ones(2, 2, 3, 3),
        "lycoris_layer1_0_conv1.dora_scale": torch.ones(out, 1, 1, 1),
        "lycoris_layer1_0_bn1.diff": torch.ones(out),
    }

    assert {path: read.method for path, read in read_lycoris(tensors, backbone).items()} == {
        "layer1.0.conv1": "LoRA with DoRA",
        "layer1.0.bn1": "full",
    }


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (("lora_down.weight", "alpha"), "found alpha, lora_down.weight, expected parts such as lora_up.weight"),
        (("lora_up.weight", "lora_down.weight", "hada_w1_a"), "found hada_w1_a, expected those of LoRA"),
        (("diff", "lora_up.weight", "lora_down.weight"), "found diff, expected those of LoRA"),
    ],
)
def test_parts_that_no_method_reads_are_refused_and_not_left_out(parts: tuple[str, ...], words: str) -> None:
    backbone = load_backbone("test_resnet", "random:0")

    with pytest.raises(AdapterUnsupported, match=f"layer1.0.conv1: {words}"):
        read_lycoris({f"lycoris_layer1_0_conv1.{part}": torch.ones(1) for part in parts}, backbone)


def test_factors_for_a_norm_are_refused() -> None:
    backbone = load_backbone("test_resnet", "random:0")
    tensors = {"lycoris_bn1.lora_up.weight": torch.ones(2, 1), "lycoris_bn1.lora_down.weight": torch.ones(1, 2)}

    with pytest.raises(AdapterError, match=r"bn1: found .* expected a linear layer or a convolution"):
        read_lycoris(tensors, backbone)


def test_files_of_lycoris_are_known_by_their_names() -> None:
    assert is_lycoris(["lora_unet_conv1.lora_down.weight", "lora_unet_conv1.lora_up.weight"])
    assert is_lycoris(["lycoris_conv1.on_input", "lycoris_conv1.weight"])
    assert is_lycoris(["unet.conv1.lora.up.weight"])
    assert not is_lycoris(["base_model.model.conv1.lora_A.weight", "base_model.model.conv1.lora_B.weight"])
    assert not is_lycoris(["conv1.weight", "layer1.0.bn1.running_mean"])


def test_strided_convolutions_that_pad_like_tensorflow_are_warned_about() -> None:
    backbone = load_backbone("tf_efficientnet_lite0", "random:0")

    warning = other_padding(backbone, ["conv_stem", "blocks.1.0.conv_dw", "conv_head"])

    assert warning.startswith("conv_stem, blocks.1.0.conv_dw: these strided convolutions")
    assert other_padding(backbone, ["conv_head", "bn1"]) == ""


@pytest.mark.parametrize("method", READS)
def test_parts_of_any_shape_are_read_or_refused_with_an_error_of_ours(method: str) -> None:
    """3 x 400 random files: the right shapes for some parts, any shapes for the others, each part left out at times."""
    draw = random.Random(method)
    sizes = (0, 1, 1, 2, 2, 3, 4, 6, 8, 12, 54)
    for name in ("linear", "conv2d", "conv2d groups"):
        layer = LAYERS[name][0]()
        likely = [*layer.weight.shape, layer.weight[0].numel(), 2, 2]
        refusals = []
        for _ in range(400):
            parts = {}
            for part in sorted(READS[method] | {"dora_scale"}):
                shape = [
                    draw.choice(likely if draw.random() < 0.8 else sizes)
                    for _ in range(draw.choice((0, 1, 2, 2, 2, 3, 4)))
                ]
                if draw.random() < 0.7:
                    parts[part] = torch.rand(shape)
            module = foreign(layer, parts)
            try:
                deltas = method_of(module).read(module)
            except AdapterError as refusal:
                refusals.append(str(refusal))
            else:
                assert merged(deltas, module.weight).shape == module.weight.shape
        assert refusals
        assert all("Fix: " in refusal for refusal in refusals)
