"""Import of LyCORIS' methods on whole networks: features of the adapter file against those of LyCORIS' own network.

Every factor is random. The file that LyCORIS writes is read with the backbone's weights alone, written as an adapter
file in float32, admitted, and mounted. Strided convolutions that pad as TensorFlow does (tf_efficientnet_lite0) are
left out: LyCORIS computes its part of them without this padding.

    python benchmarks/foreign/import_lycoris.py [--backbones resnet34 tf_efficientnet_lite0 vit_tiny_patch16_224]
"""

from __future__ import annotations

import argparse
import copy
import logging
import tempfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from lycoris import LycorisNetwork, create_lycoris
from torch import nn

from lensmount_adapters import Backbone, ExactSwapper, Limits, Manifest, admit, dump_adapter, load_backbone
from lensmount_adapters.adapter.manifest import Factors, LinearHead
from lensmount_adapters.foreign.lycoris import read_lycoris

ALGORITHMS: dict[str, dict[str, Any]] = {
    "LoRA, LoCon": {"algo": "lora", "linear_dim": 8, "linear_alpha": 4},
    "LoCon, CP/Tucker": {"algo": "lora", "linear_dim": 8, "use_tucker": True},
    "LoRA with DoRA": {"algo": "lora", "linear_dim": 8, "dora_wd": True},
    "LoRA with DoRA by input": {"algo": "lora", "linear_dim": 8, "dora_wd": True, "wd_on_output": False},
    "LoHa": {"algo": "loha", "linear_dim": 4},
    "LoHa, CP/Tucker": {"algo": "loha", "linear_dim": 4, "use_tucker": True},
    "LoKr": {"algo": "lokr", "linear_dim": 4},
    "LoKr, CP/Tucker": {"algo": "lokr", "linear_dim": 4, "use_tucker": True},
    "LoKr, both products": {"algo": "lokr", "linear_dim": 2, "decompose_both": True, "factor": 16},
    "LoKr, whole": {"algo": "lokr", "linear_dim": 10_000, "factor": 8},
    "GLoRA": {"algo": "glora", "linear_dim": 4},
    "T-LoRA": {"algo": "tlora", "linear_dim": 4},
    "full, with norms": {"algo": "full", "train_norm": True},
    "diagonal OFT": {"algo": "diag-oft", "linear_dim": 8, "constraint": 0.5, "rescaled": True},
    "BOFT": {"algo": "boft", "linear_dim": 42},
    "IA3": {"algo": "ia3"},
    "IA3 by input": {"algo": "ia3", "train_on_input": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="methods whose names contain this")
    parser.add_argument("--backbones", nargs="+", default=["resnet34", "tf_efficientnet_lite0", "vit_tiny_patch16_224"])
    options = parser.parse_args()
    logging.getLogger("LyCORIS").setLevel(logging.ERROR)
    backbones = [randomised(load_backbone(name, "random:0")) for name in options.backbones]
    print(f"| method | {' | '.join(options.backbones)} |\n|---|{'---:|' * len(backbones)}")
    for name, algorithm in ((name, algorithm) for name, algorithm in ALGORITHMS.items() if options.only in name):
        print(f"| {name} | {' | '.join(error(backbone, algorithm) for backbone in backbones)} |", flush=True)


def error(backbone: Backbone, algorithm: dict[str, Any]) -> str:
    """The relative error of the features, or why there is none."""
    theirs = copy.deepcopy(backbone.module)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.safetensors"
        try:
            write(theirs, path, algorithm)
        except (ValueError, RuntimeError, TypeError, AssertionError) as refusal:
            return f"LyCORIS: {type(refusal).__name__}"
        data = adapter_file(backbone, path)
    adapter = admit(data, backbone, Limits(max_file_bytes=len(data)))
    images = torch.randn(2, *backbone.preprocessing.input_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        base, expected = backbone.module(images), theirs(images)
    swapper = ExactSwapper(backbone)
    swapper.mount(adapter)
    found = backbone.features(images)
    swapper.unmount()
    moved = float((expected - base).norm() / base.norm())
    assert moved > 1e-3, moved
    return f"{float((found - expected).norm() / expected.norm()):.0e}"


def write(network: nn.Module, path: Path, algorithm: dict[str, Any]) -> None:
    """Put LyCORIS on the network, draw all its parameters, and save its file."""
    torch.manual_seed(1)
    grouped = [name for name, module in network.named_modules() if getattr(module, "groups", 1) > 1]
    skipped = [name for name, module in network.named_modules() if pads_like_tensorflow(module)]
    if algorithm["algo"] == "glora" or algorithm.get("train_on_input"):
        skipped += grouped  # LyCORIS' own formula fails there
    if algorithm["algo"] == "tlora":  # and its network there
        skipped += grouped + [name for name, module in network.named_modules() if max(kernel(module)) > 1]
    LycorisNetwork.apply_preset({"exclude_name": skipped})
    live = create_lycoris(network, 1.0, warn_on_unmatched=False, **algorithm)
    live.apply_to()
    with torch.no_grad():
        for parameter in live.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    live.save_weights(path, torch.float32, {})


def pads_like_tensorflow(module: nn.Module) -> bool:
    return type(module).__name__ == "Conv2dSame" and max(getattr(module, "stride", (1,))) > 1


def kernel(module: nn.Module) -> tuple[int, ...]:
    return module.kernel_size if isinstance(module, nn.Conv2d) else (1,)


def adapter_file(backbone: Backbone, path: Path) -> bytes:
    tensors: dict[str, torch.Tensor] = {}
    modules: dict[str, Factors] = {}
    for module, read in read_lycoris(safetensors.torch.load_file(path), backbone).items():
        tensors |= {f"{module}.{name}": tensor for name, tensor in read.deltas.items()}
        if "lora_B.weight" in read.deltas:
            rank = read.deltas["lora_B.weight"].shape[1]
            modules[module] = Factors(rank=rank, alpha=rank)
    head = {"head.weight": torch.randn(2, backbone.feature_dim), "head.bias": torch.zeros(2)}
    manifest = Manifest(
        name="imported",
        method="imported",
        backbone=backbone.ref,
        preprocessing=backbone.preprocessing,
        labels=("a", "b"),
        head=LinearHead(),
        modules=modules,
    )
    return dump_adapter(manifest, {**tensors, **head}, torch.float32)


def randomised(backbone: Backbone) -> Backbone:
    """BatchNorm statistics and scales that change every result if they are left out."""
    draw = torch.Generator().manual_seed(1)
    for name, tensor in backbone.module.state_dict().items():
        if name.endswith(("running_var", "weight")) and tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5, generator=draw)
        elif name.endswith(("running_mean", "bias")):
            tensor.normal_(std=0.1, generator=draw)
    return Backbone(backbone.name, backbone.module, backbone.preprocessing, backbone.dtype)


if __name__ == "__main__":
    main()
