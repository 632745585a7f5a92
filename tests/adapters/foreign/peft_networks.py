"""A small network with every kind of layer, random adapters of PEFT on it, and the weights that PEFT merges."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lensmount_adapters import Backbone, Preprocessing
from lensmount_adapters.foreign.peft import Reading, read_peft
from lensmount_adapters.formulas.parts import merged

LINEAR = ["up", "down", "square"]
CONVOLUTIONS = ["conv", "point"]
CLOSE = 1e-5


class Small(nn.Module):
    """Images [N, 3, 16, 16] to 8 features, or to logits of 3 classes with `fc`."""

    def __init__(self, fc: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.point = nn.Conv2d(8, 12, 1)
        self.grouped = nn.Conv2d(12, 12, 3, padding=1, groups=4)
        self.dilated = nn.Conv2d(12, 12, 3, padding=2, dilation=2)
        self.norm = nn.BatchNorm2d(12)
        self.layer_norm = nn.LayerNorm(12)
        self.up = nn.Linear(12, 16)
        self.down = nn.Linear(16, 8)
        self.square = nn.Linear(8, 8)
        self.fc = fc
        self.pretrained_cfg = {"classifier": "fc", "input_size": (3, 16, 16), "fixed_input_size": False}

    def forward(self, images: Tensor) -> Tensor:
        x = self.point(self.conv(images)).relu()
        x = self.norm(self.dilated(self.grouped(x))).relu().mean((2, 3))
        x = self.down(self.up(self.layer_norm(x)).tanh()).tanh()
        logits: Tensor = self.fc(self.square(x))
        return logits


def network(seed: int = 0) -> Small:
    """The network with a classifier; no statistic and no scale is at its first value."""
    torch.manual_seed(seed)
    net = Small(nn.Linear(8, 3)).eval()
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif tensor.is_floating_point() and tensor.ndim == 1:
                tensor.normal_(1 if "norm.weight" in name else 0, 0.3)
    return net


def backbone_of(net: nn.Module) -> Backbone:
    """The same network without its classifier, as Lensmount serves it."""
    bare = copy.deepcopy(net)
    bare.fc = nn.Identity()
    rule = Preprocessing(size=(16, 16), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    return Backbone("small", bare, rule, torch.float32)


def randomise(model: nn.Module, size: float = 0.2) -> None:
    """Add noise to everything that trains, so that no factor stays zero."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * size)


def trained(config: peft.PeftConfig, folder: Path, size: float = 0.2, **options: Any) -> tuple[Small, Any]:
    """The bare network, and PEFT's model with a random adapter, saved into `folder`."""
    net = network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT advises on targets and on what it saves
        model: Any = peft.get_peft_model(copy.deepcopy(net), config)
        randomise(model, size)
        model.save_pretrained(folder, **options)
    return net, model.eval()


def saved(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the config that PEFT wrote."""
    tensors: dict[str, Tensor] = load_file(folder / "adapter_model.safetensors")
    return tensors, json.loads((folder / "adapter_config.json").read_text())


def weights_with(reading: Reading, backbone: Backbone) -> dict[str, Tensor]:
    """Every tensor of the backbone with the deltas that were read, in float64."""
    live = {name: tensor.double() for name, tensor in backbone.tensors.items()}
    for path, deltas in reading.deltas.items():
        if "delta" in deltas:
            live[path] = live[path] + deltas["delta"]
            continue
        live[f"{path}.weight"] = merged(deltas, live[f"{path}.weight"])
        for part in ("bias", "running_mean", "running_var"):
            if f"{part}.delta" in deltas:
                live[f"{path}.{part}"] = live[f"{path}.{part}"] + deltas[f"{part}.delta"]
    return live


def largest_error(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """The largest relative error of a tensor in Frobenius norms."""
    errors = [
        float((tensor - expected[name].double()).norm() / expected[name].double().norm())
        for name, tensor in found.items()
    ]
    return max(errors)


def difference(config: peft.PeftConfig, folder: Path, size: float = 0.2, **options: Any) -> tuple[float, Reading]:
    """The largest error of the weights that were read from the file, relative to PEFT's merged weights."""
    net, model = trained(config, folder, size=size, **options)
    backbone = backbone_of(net)
    reading = read_peft(*saved(folder), backbone)
    expected = model.merge_and_unload().state_dict()
    base = {name: tensor for name, tensor in net.state_dict().items() if name in backbone.tensors}
    assert largest_error(base, expected) > 1e-3  # the adapter does change the weights
    return largest_error(weights_with(reading, backbone), expected), reading
